#include "core/kernels/elementwise.h"
#include "core/kernels/unit.h"
#include "core/ops_parts.h"

namespace faq {
namespace {

// The second pass of the normalisation and the gradient of the input, slice by slice: the gradient of the
// accumulators is read from the cache it was just written to.
Grads unit_backward(const ConvBackward& conv, const Normalization& norm, const Tensor& dy,
                    bool want_dresidual) {
  const kernels::NormActBackward pass = norm.backward(dy);
  Tensor accumulators = Tensor::empty(dy.shape(), conv.grad_dtype);
  Tensor dresidual = want_dresidual ? Tensor::empty(dy.shape(), conv.grad_dtype) : Tensor();
  Tensor dx = conv.dx_wanted ? Tensor::empty(conv.x.shape(), conv.grad_dtype) : Tensor();
  const Tensor weights = kernels::convert(conv.weights, conv.grad_dtype);
  const std::int64_t images = dy.dim(0);
  const std::int64_t bytes_per_image = static_cast<std::int64_t>(accumulators.bytes()) / images;
  kernels::for_each_slice(images, bytes_per_image, static_cast<std::int64_t>(weights.bytes()),
                          [&](std::int64_t first, std::int64_t last) {
                            Tensor part = accumulators.rows(first, last);
                            Tensor dresidual_part = dresidual ? dresidual.rows(first, last) : Tensor();
                            pass.apply(first, last, part, dresidual_part);
                            if (!dx) return;
                            Tensor dx_part = dx.rows(first, last);
                            kernels::conv2d_backward_data(part, weights, conv.options, dx_part);
                          });
  Grads grads = norm.grads(pass, dresidual);
  grads.insert(grads.begin(), {dx, conv.dw(accumulators)});
  return grads;
}

}  // namespace

Var conv_norm_act_integer(const Var& x, const Var& w, const Tensor& quantized, NormState& norm,
                          const Var& residual, const ConvOptions& conv_options, Engine engine,
                          DType grad_dtype, const NormActOptions& norm_options) {
  check_quantized(w, quantized);
  const kernels::Accumulators accumulators =
      kernels::conv2d_accumulators(x.value(), quantized, conv_options, engine, norm_options.training);
  const Normalization n =
      prepare_norm_act(accumulators.values, norm, residual, norm_options, accumulators.statistics);
  Tensor y = kernels::norm_act(n.x, n.params);
  const ConvBackward conv{x.value(), quantized, conv_options, grad_dtype, x.requires_grad()};
  std::vector<Var> inputs{x, w};
  add_norm_inputs(norm, residual, inputs);
  return Var::record("conv_norm_act_integer", std::move(y), std::move(inputs),
                     [conv, n, want_dresidual = residual && residual.requires_grad()](const Tensor& dy) {
                       return unit_backward(conv, n, dy, want_dresidual);
                     });
}

}  // namespace faq
