#include "core/kernels/quantization_error.h"

#include <Eigen/Core>
#include <algorithm>
#include <vector>

#include "core/kernels/block.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD float block_error(const float* x, float step, float inverse_step, float low, float high,
                           std::int64_t n) {
  constexpr int lanes = 32;  // independent partial sums, the same ones for every instruction set
  float sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      const float q =
          round_half_even_in_range(std::min(std::max(x[i + lane] * inverse_step, low), high)) * step;
      sums[lane] += (x[i + lane] - q) * (x[i + lane] - q);
    }
  }
  float total = 0;
  for (; i < n; ++i) {
    const float q = round_half_even_in_range(std::min(std::max(x[i] * inverse_step, low), high)) * step;
    total += (x[i] - q) * (x[i] - q);
  }
  for (const float sum : sums) total += sum;
  return total;
}

}  // namespace

float max_magnitude(const Tensor& x) {
  if (x.numel() == 0) return 0;
  return Eigen::Map<const Eigen::ArrayXf>(x.data<float>(), x.numel()).abs().maxCoeff();
}

double quantization_error(const Tensor& x, const FixedPoint& format) {
  const std::int64_t n = x.numel();
  const std::int64_t blocks = (n + block_length - 1) / block_length;
  std::vector<float> errors(blocks);
  const float* values = x.data<float>();
  parallel_for(blocks, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = b * block_length;
      errors[b] =
          block_error(values + offset, format.step, 1.0f / format.step, static_cast<float>(format.min()),
                      static_cast<float>(format.max()), std::min(block_length, n - offset));
    }
  });
  double total = 0;
  for (const float error : errors) total += error;
  return total;
}

}  // namespace faq::kernels
