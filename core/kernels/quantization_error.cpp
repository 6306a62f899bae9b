#include "core/kernels/quantization_error.h"

#include <Eigen/Core>
#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

#include "core/division.h"
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

// Magnitudes are in the order of their bits.
FAQ_SIMD float largest_magnitude(const float* x, std::int64_t n) {
  std::int32_t largest = 0;
  for (std::int64_t i = 0; i < n; ++i)
    largest = std::max(largest, std::bit_cast<std::int32_t>(x[i]) & 0x7fffffff);
  return std::bit_cast<float>(largest);
}

QuantizationErrors seen(const Tensor& x, std::span<const FixedPoint> formats) {
  QuantizationErrors result(x.numel(), formats);
  const float* values = x.data<float>();
  parallel_for(result.blocks(), 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) result.see(b, values + b * QuantizationErrors::block_length);
  });
  return result;
}

}  // namespace

QuantizationErrors::QuantizationErrors(std::int64_t n, std::span<const FixedPoint> formats)
    : n_(n),
      formats_(formats.begin(), formats.end()),
      largest_(divided_up(n, block_length)),
      errors_(largest_.size() * formats.size()) {}

void QuantizationErrors::see(std::int64_t block, const float* x) {
  const std::int64_t length = std::min(block_length, n_ - block * block_length);
  largest_[block] = largest_magnitude(x, length);
  float* errors = errors_.data() + block * std::ssize(formats_);
  for (const FixedPoint& format : formats_) *errors++ = block_error(x, format, length);
}

float QuantizationErrors::max_magnitude() const {
  return largest_.empty() ? 0.0f : largest_magnitude(largest_.data(), blocks());
}

std::vector<double> QuantizationErrors::errors() const {
  std::vector<double> totals(formats_.size());
  const float* errors = errors_.data();
  for (std::int64_t b = 0; b < blocks(); ++b) {
    for (double& total : totals) total += *errors++;
  }
  return totals;
}

float max_magnitude(const Tensor& x) { return seen(x, {}).max_magnitude(); }

std::vector<double> quantization_errors(const Tensor& x, std::span<const FixedPoint> formats) {
  return seen(x, formats).errors();
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
