#include "core/kernels/quantization_error.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/groups.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD float block_error(const float* x, float scale, float inverse_scale, float low, float high,
                           std::int64_t n) {
  return lane_sum(
      n, [=](std::int64_t i) __attribute__((always_inline)) {
        const float q = round_half_even_in_range(clamped(x[i] * inverse_scale, low, high)) * scale;
        return (x[i] - q) * (x[i] - q);
      });
}

float block_error(const float* x, const FixedPoint& format, std::int64_t n) {
  return block_error(x, format.scale, 1.0f / format.scale, static_cast<float>(format.min()),
                     static_cast<float>(format.max()), n);
}

}  // namespace

float max_magnitude(const Tensor& x) {
  constexpr std::int64_t chunk = 1 << 14;
  const float* values = x.data<float>();
  std::vector<float> largest((x.numel() + chunk - 1) / chunk);
  parallel_for(static_cast<std::int64_t>(largest.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t n = std::min(chunk, x.numel() - c * chunk);
      largest[c] = Eigen::Map<const Eigen::ArrayXf>(values + c * chunk, n).abs().maxCoeff();
    }
  });
  return largest.empty() ? 0.0f : *std::ranges::max_element(largest);
}

std::vector<double> quantization_errors(const Tensor& x, std::span<const FixedPoint> formats) {
  // Longer than other blocks, as the sums of a block take as long as some hundred of its elements.
  constexpr std::int64_t length = 8 * block_length;
  const std::int64_t n = x.numel();
  const std::int64_t blocks = (n + length - 1) / length;
  const auto count = static_cast<std::int64_t>(formats.size());
  std::vector<float> errors(blocks * count);
  const float* values = x.data<float>();
  parallel_for(blocks, 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = b * length;
      for (std::int64_t f = 0; f < count; ++f)
        errors[b * count + f] = block_error(values + offset, formats[f], std::min(length, n - offset));
    }
  });
  std::vector<double> totals(count);
  for (std::int64_t b = 0; b < blocks; ++b) {
    for (std::int64_t f = 0; f < count; ++f) totals[f] += errors[b * count + f];
  }
  return totals;
}

std::vector<float> group_scales(const Tensor& x, std::int64_t length, const FixedPoint& format) {
  constexpr int per_octave = 8,
                octaves = 3;  // with 2 bits the best scale of a Gaussian is 0.4 of the covering scale
  return for_each_group<float>(x, length, [&](const float* values, std::int64_t n) {
    FixedPoint candidate = format;
    const float covering = Eigen::Map<const Eigen::ArrayXf>(values, n).abs().maxCoeff() / format.max();
    float best = 0, smallest = std::numeric_limits<float>::infinity();
    if (!(covering > 0)) return best;
    for (int i = 0; i <= per_octave * octaves; ++i) {
      candidate.scale = covering * std::exp2(-static_cast<float>(i) / per_octave);
      const float error = block_error(values, candidate, n);
      if (error < smallest) {
        smallest = error;
        best = candidate.scale;
      }
    }
    return best;
  });
}

std::vector<float> row_scales(const Tensor& x, const FixedPoint& format) {
  return group_scales(x, std::max<std::int64_t>(x.numel() / std::max<std::int64_t>(x.dim(0), 1), 1), format);
}

}  // namespace faq::kernels
