// Quantization errors of a tensor, for choosing a scale.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// Collects max |x| and Σ (x − Q(x))² for each of some formats, block by block, while x is in the cache
/// anyway: the optimizer does as it writes weights. What it returns are the bits of max_magnitude() and
/// quantization_errors().
class QuantizationErrors {
 public:
  /// Longer than other blocks, as the sums of a block take as long as some hundred of its elements.
  static constexpr std::int64_t block_length = 4096;

  /// n: the elements of x.
  QuantizationErrors(std::int64_t n, std::span<const FixedPoint> formats);
  std::int64_t blocks() const { return static_cast<std::int64_t>(largest_.size()); }
  /// Sees a block: the elements from block·block_length on of x, which is f32. Each block must be seen once;
  /// several threads may see some each.
  void see(std::int64_t block, const float* x);
  float max_magnitude() const;
  /// The sums of the blocks, in order.
  std::vector<double> errors() const;

 private:
  const std::int64_t n_;
  const std::vector<FixedPoint> formats_;
  std::vector<float> largest_, errors_;  ///< of each block
};

/// max |x|; NaN if one of x is NaN. f32.
float max_magnitude(const Tensor& x);
/// Σ (x − Q(x))² for each of these formats, in one pass over x. f32. Chunks are summed in order, so the
/// result does not depend on threads.
std::vector<double> quantization_errors(const Tensor& x, std::span<const FixedPoint> formats);
/// For every group of `length` consecutive elements of a row of x (a row is one index of the first dimension;
/// its last group may be shorter): the scale that minimises Σ (x − Q(x))² with the bits of `format`. The
/// scale is a real number, found to an eighth of an octave. f32. 0 for a group of zeros.
std::vector<float> group_scales(const Tensor& x, std::int64_t length, const FixedPoint& format);
/// The same for whole rows.
std::vector<float> row_scales(const Tensor& x, const FixedPoint& format);

}  // namespace faq::kernels
