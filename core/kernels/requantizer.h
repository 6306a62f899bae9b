// Requantization of accumulators, of a whole tensor or in parts.
#pragma once

#include <cstddef>
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

  /// Some channels of some rows of sums, which lie `stride` apart. A row of a result is all its channels.
  struct Block {
    const std::int32_t* sums;
    std::int64_t stride;
    std::int64_t first_row, rows;
    std::int64_t first_channel, channels;
  };
  /// Where the results of a convolution go, and what is added to them.
  struct Places {
    const std::byte* residual;  ///< null: nothing
    DType residual_dtype;
    std::byte* out;
  };
  /// Throws unless `out` has a place for sums of this shape, and the residual is of it.
  Places places(const Shape& sums, const Tensor& residual, Tensor& out) const;
  /// As requantize() of the block, in the calling thread.
  void operator()(const Block& block, const Places& places) const;

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
  void check_places(const Shape& sums, const Tensor& residual, const Tensor& out) const;
  template <class A, class R>
  void values(const A* acc, const R* r, std::int64_t n, void* out, std::int64_t offset) const;

  FixedPoint format_;
  std::int64_t channels_;
  Tensor multiplier_, bias_;  ///< repeated to the length of a block
  RowParams row_;
};

}  // namespace faq::kernels
