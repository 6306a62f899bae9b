#include "core/kernels/sgd.h"

#include <algorithm>

#include "core/division.h"
#include "core/kernels/quantization_error.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void update(float* w, float* v, const float* g, const SgdStep& s, std::int64_t n) {
  const SgdStep step = s;
  for (std::int64_t i = 0; i < n; ++i) {
    v[i] = step.momentum * v[i] + (g[i] * step.grad_scale + step.weight_decay * w[i]);
    w[i] -= step.lr * v[i];
  }
}

}  // namespace

void sgd_update(Tensor& weights, Tensor& velocity, const Tensor& grad, const SgdStep& step,
                QuantizationErrors* errors) {
  check(weights.shape() == velocity.shape() && weights.shape() == grad.shape(), "sgd: weights ",
        weights.shape(), ", velocity ", velocity.shape(), ", gradient ", grad.shape());
  float* w = weights.mutable_data<float>();
  float* v = velocity.mutable_data<float>();
  const float* g = grad.data<float>();
  constexpr std::int64_t length = QuantizationErrors::block_length;
  const std::int64_t n = weights.numel();
  parallel_for(divided_up(n, length), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = b * length;
      update(w + offset, v + offset, g + offset, step, std::min(length, n - offset));
      if (errors) errors->see(b, w + offset);
    }
  });
}

}  // namespace faq::kernels
