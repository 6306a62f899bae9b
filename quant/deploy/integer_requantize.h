// kernels::requantize and kernels::quantize in integers alone, for machines without floating point.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/kernels/requantize.h"

namespace faq {

/// q = clamp(round((sum·multiplier + bias + (residual·factor) << (shift − factor_shift)) / 2^shift)), half to
/// even, for each channel its own multiplier, bias and shift. Nothing is rounded before the one rounding, and
/// nothing leaves 64 bits: an f32 is an integer over a power of two.
struct IntegerRequantize {
  std::vector<std::int32_t> multiplier;
  std::vector<std::int64_t> bias;
  std::vector<std::uint8_t> shift;
  std::int32_t residual = 0;  ///< the factor of a residual
  std::uint8_t residual_shift = 0;
  int low = 0, high = 0;
};

/// The same function as `params`, where |sum| of channel c is at most `largest_sum[c]` and |residual| at most
/// `largest_residual`. A channel whose exact sum does not fit 62 bits, because its multiplier is next to
/// nothing, is made of what its sums can do to the result: nothing, or one step. Throws usage, with `op` and
/// the channel, where they do more.
IntegerRequantize integer_requantize(const kernels::Requantize& params,
                                     std::span<const std::int64_t> largest_sum, int largest_residual,
                                     const std::string& op);

/// kernels::quantize of sums in integers alone: element i is the least sum that becomes min + 1 + i or more
/// of `levels`. 2^31 - 1 also stands where no sum does.
std::vector<std::int32_t> integer_thresholds(const FixedPoint& sums, const FixedPoint& levels);

}  // namespace faq
