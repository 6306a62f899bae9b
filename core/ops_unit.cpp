#include <algorithm>

#include "core/kernels/elementwise.h"
#include "core/kernels/tiled_gradient.h"
#include "core/kernels/unit.h"
#include "core/kernels/weight_gradient.h"
#include "core/ops_parts.h"
#include "core/parallel.h"

namespace faq {
namespace {

// The same with 8-bit gradients, by groups of images.
Grads unit_backward_in_integers(const ConvBackward& conv, const Normalization& norm, const Tensor& dy,
                                const InputGradient& dx, bool want_dresidual) {
  Tensor dresidual = want_dresidual ? Tensor::empty(dy.shape(), conv.grad_format.dtype()) : Tensor();
  IntegerBackward both(conv);
  const kernels::NormActBackward pass = norm.backward(dy, conv.factors(), !both.needs_float());
  both.groups().for_each([&](std::int64_t group, int share) {
    const kernels::Slice images{both.groups().begin(group), both.groups().end(group), share};
    Tensor dresidual_part = images.of(dresidual);
    Tensor gradient;
    if (both.needs_float()) {
      gradient = Tensor::empty(images.of(dy).shape());
      pass.apply(images.first, images.last, gradient, dresidual_part);
    }
    const kernels::RoundedGradient rounded =
        gradient ? kernels::rounded(gradient, conv.keys, images.first)
                 : pass.apply_rounded(images.first, images.last, conv.keys, dresidual_part);
    both.add(group, share, rounded, gradient, dx.rows(images.first, images.last));
  });
  Grads grads = norm.grads(pass, dresidual);
  grads.insert(grads.begin(), {dx.values, both.weight_gradient()});
  return grads;
}

// Runs the second pass of the normalisation and both gradients of the convolution, slice by slice. So the
// gradient of the accumulators, and the converted input, exist only in the cache, and so does that of the
// input where it is added to another one (`dx_sum`).
Grads unit_backward(const ConvBackward& conv, const Normalization& norm, const Tensor& dy,
                    const Tensor& dx_sum, bool want_dresidual) {
  const InputGradient dx = conv.input_gradient(dx_sum);
  if (conv.has_integer_weight_gradient() || conv.has_integer_data_gradient())
    return unit_backward_in_integers(conv, norm, dy, dx, want_dresidual);
  const kernels::NormActBackward pass = norm.backward(dy, conv.factors());
  Tensor dresidual = want_dresidual ? Tensor::empty(dy.shape(), conv.grad_format.dtype()) : Tensor();
  const kernels::PackedWeights weights = conv.operand();
  if (dx) weights.prepare(conv.float_dtype(), conv.geometry.groups);
  const std::int64_t images = dy.dim(0);
  kernels::WeightGradient dw(weights.filter_shape(), conv.geometry, num_shares(images));
  const std::int64_t bytes_per_image = (dy.numel() + conv.x.numel()) / std::max<std::int64_t>(images, 1) *
                                       static_cast<std::int64_t>(size_of(conv.grad_format.dtype()));
  const auto backward = [&](const kernels::Slice& slice) {
    Tensor gradient = Tensor::empty(slice.of(dy).shape(), conv.float_dtype());
    Tensor dresidual_part = slice.of(dresidual);
    pass.apply(slice.first, slice.last, gradient, dresidual_part);
    dw.add(conv.operand(slice.of(conv.x)), gradient, slice.share);
    if (dx) conv.data_gradient(gradient, weights, dx.rows(slice.first, slice.last));
  };
  kernels::for_each_slice(images, bytes_per_image, static_cast<std::int64_t>(weights.values().bytes()),
                          backward, kernels::TiledGradient::images_together(conv.float_dtype()));
  Grads grads = norm.grads(pass, dresidual);
  grads.insert(grads.begin(), {dx.values, conv.scaled(dw.sum())});
  return grads;
}

}  // namespace

Var conv_norm_act_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                          const NormState& norm, const Var& residual, const ConvGeometry& geometry,
                          Engine engine, const GradFormat& grad_format, const NormActOptions& norm_options,
                          LearnedStatistics* learned, const RoundingKeys& keys) {
  check_quantized(w, quantized);
  const kernels::Accumulators accumulators =
      kernels::conv2d_accumulators(x.value(), quantized, geometry, engine, norm_options.batch_statistics);
  const Normalization n = prepare_norm_act(accumulators.values, norm, residual, norm_options,
                                           accumulators.statistics, accumulators.scales);
  tell(n, learned);
  Tensor y = kernels::norm_act(n.x, n.params);
  const ConvBackward conv{x.value(), quantized.backward(), geometry, grad_format, x.requires_grad(), engine,
                          keys};
  std::vector<Var> inputs{x, w};
  add_norm_inputs(norm, residual, norm_options, inputs);
  const bool want_dresidual = residual && residual.requires_grad();
  return Var::record_adding("conv_norm_act_integer", std::move(y), std::move(inputs),
                            [conv, n, want_dresidual](const Tensor& dy, const Grads& sums) {
                              return unit_backward(conv, n, dy, sums[0], want_dresidual);
                            });
}

}  // namespace faq
