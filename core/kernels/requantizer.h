// Requantization of accumulators, of a whole tensor or in parts.
#pragma once

#include <cstdint>

#include "core/kernels/block.h"
#include "core/kernels/requantize.h"

namespace faq::kernels {

/// Returns the integers that `params` describes, in a new tensor.
Tensor requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params);
/// The same into `out`, which must have the shape of the accumulators and the dtype of the format.
void requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params, Tensor& out);

/// requantize() with parameters that are prepared once for all parts of a result.
class Requantizer {
 public:
  Requantizer(const Requantize& params, std::int64_t channels);
  Requantizer(const Requantizer&) = delete;
  Requantizer& operator=(const Requantizer&) = delete;

  /// As requantize(), in all threads.
  void operator()(const Tensor& accumulators, const Tensor& residual, Tensor& out) const;

  /// What the values of a block are computed from.
  struct RowParams {
    const float* multiplier;
    const float* bias;
    float residual_factor;
    float low, high;
    float certain;        ///< distance to the nearest integer up to which f32 can be trusted
    std::int64_t period;  ///< elements after which multipliers and biases repeat, at most those of a block
    bool no_overflow;     ///< no value exceeds what f32 can hold, and none is NaN

    /// Those of the elements from i on.
    RowParams from(std::int64_t i) const {
      return {multiplier + i, bias + i, residual_factor, low, high, certain, period, no_overflow};
    }
  };

 private:
  ChannelBlocks blocks_of(const Shape& shape) const;
  void check_operands(const Tensor& accumulators, const Tensor& residual, const Tensor& out) const;
  template <class A, class R>
  void values(const A* acc, const R* r, std::int64_t n, void* out, std::int64_t offset) const;

  FixedPoint format_;
  std::int64_t channels_;
  Tensor multiplier_, bias_;  ///< repeated to the length of a block
  RowParams row_;
};

}  // namespace faq::kernels
