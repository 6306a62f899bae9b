#include <algorithm>

#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "core/ops.h"

namespace faq {
namespace {

Tensor scaled_by(Tensor gradient, float factor) {
  kernels::scale_in_place(gradient, factor);
  return gradient;
}

}  // namespace

// ŵ = s·q;  dw = dŵ inside the range, else 0;  ds = Σ dŵ·(q − w/s) inside, Σ dŵ·q outside, times 1/√(n·max).
Var learned_rounding(const Var& w, const Var& scales, const FixedPoint& format) {
  const std::int64_t per_scale = w.value().numel() / scales.value().numel();
  return Var::record("learned_rounding", w.value(), {w, scales},
                     [w = w.value(), scales = scales.value().clone(), format,
                      factor = kernels::scale_gradient_factor(per_scale, format)](const Tensor& dy) -> Grads {
                       auto [dw, dscales] = kernels::rounding_gradients(dy, w, scales, format);
                       return {dw, scaled_by(dscales, factor)};
                     });
}

// The same for activations; n counts those of one image.
Var quantize(const Var& x, const FixedPoint& format, const Var& scale) {
  const std::int64_t per_image = x.value().numel() / std::max<std::int64_t>(x.shape()[0], 1);
  return Var::record("quantize", kernels::quantize(x.value(), format), {x, scale},
                     [x = x.value(), format,
                      factor = kernels::scale_gradient_factor(per_image, format)](const Tensor& dy) -> Grads {
                       auto [dx, dscale] =
                           kernels::rounding_gradients(dy, x, Tensor::full({1}, format.scale), format);
                       return {dx, scaled_by(dscale, factor)};
                     });
}

// dy goes on;  0 for the others.
Var with_idle(const Var& y, std::span<const Var> idle) {
  std::vector<Var> inputs{y};
  for (const Var& parameter : idle)
    if (parameter) inputs.push_back(parameter);
  if (inputs.size() == 1) return y;
  std::vector<Shape> shapes;
  for (std::size_t i = 1; i < inputs.size(); ++i) shapes.push_back(inputs[i].shape());
  return Var::record("with_idle", y.value(), std::move(inputs), [shapes](const Tensor& dy) {
    Grads grads{dy};
    for (const Shape& shape : shapes) grads.push_back(Tensor::zeros(shape));
    return grads;
  });
}

}  // namespace faq
