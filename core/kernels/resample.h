// The two passes of separable resampling of 8-bit pixels, in fixed point.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faq::kernels {

/// Output i is the sum of weights[i * stride + k] * input[first[i] + k] over k < count[i]. The weights have
/// `precision` fractional bits. The sum is rounded half up and clamped to a pixel.
struct ResampleFilter {
  static constexpr int precision = 32 - 8 - 2;  ///< as in Pillow, src/libImaging/Resample.c

  std::vector<int> first;
  std::vector<int> count;
  std::vector<std::int32_t> weights;
  std::size_t stride = 0;

  int size() const { return static_cast<int>(first.size()); }
  const std::int32_t* weights_of(int i) const {
    return weights.data() + static_cast<std::size_t>(i) * stride;
  }
  int begin() const { return first.front(); }
  int end() const { return first.back() + count.back(); }
};

/// Filters one row of pixels of 1 or 3 interleaved channels along the row. `in` must hold filter.end()
/// pixels.
void resample_row(const std::uint8_t* in, int channels, const ResampleFilter& filter, std::uint8_t* out);

/// Computes output row i of a filter along the columns of an image: a weighted sum of rows of `n` bytes. `in`
/// is the row filter.begin().
void resample_column(const std::uint8_t* in, std::size_t n, const ResampleFilter& filter, int i,
                     std::uint8_t* out);

}  // namespace faq::kernels
