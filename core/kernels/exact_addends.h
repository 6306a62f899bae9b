// Splits weights into parts that are small enough for exact sums.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// Up to this magnitude every integer is exact in f32.
inline constexpr std::int64_t f32_integers = std::int64_t{1} << 24;

/// A filter of at most so many weights can be split into addends for sums with bytes, whatever the weights
/// are: the sums of addends of ±1 stay below the limit.
inline constexpr std::int64_t longest_divisible_filter = (f32_integers - 1) / 255;

/// True if no weights of this shape and format need splitting.
bool are_exact(const Shape& weights, const FixedPoint& format, int max_input, int max_magnitude);

/// The number of addends that exact_addends() splits s8 weights into. Throws internal when no number is
/// enough.
int exact_parts(const Tensor& weights, int max_input, int max_magnitude);

/// The largest |Σ w| over those taps of a filter that a window has inside an image, wherever its border is:
/// over any rectangle of taps. Of s8 weights O,I,H,W.
std::int64_t largest_window_sum(const Tensor& weights);

/// Splits s8 weights into `parts` addends. The magnitudes of the parts of a weight differ by at most one.
std::vector<Tensor> divided(const Tensor& weights, int parts);

/// Splits s8 weights into few s8 addends. The magnitude of each addend is at most `max_magnitude`, and its
/// sums with inputs of 0 to `max_input`, in any order, stay within ±2^24. The bound of an output channel is
/// computed separately for its positive and its negative weights, from their sums and counts.
std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude);

}  // namespace faq::kernels
