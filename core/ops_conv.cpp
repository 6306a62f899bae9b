#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "core/kernels/requantize.h"
#include "core/kernels/weight_gradient.h"
#include "core/ops_parts.h"

namespace faq {
namespace {

Shape as_image(const Shape& rows) { return {rows[0], 1, 1, rows[1]}; }

// Σ over rows of dy: the gradient of a bias.
Tensor column_sums(const Tensor& dy) {
  Tensor sums = Tensor::zeros({dy.dim(1)});
  const Tensor values = kernels::convert(dy, DType::f32);
  float* out = sums.mutable_data<float>();
  const float* in = values.data<float>();
  for (std::int64_t i = 0; i < values.numel(); ++i) out[i % dy.dim(1)] += in[i];
  return sums;
}

// dy: f32, times the factors of `conv`.
Grads in_integers(const ConvBackward& conv, const Tensor& dy) {
  IntegerBackward both(conv);
  const InputGradient dx = conv.input_gradient();
  both.groups().for_each([&](std::int64_t group, int share) {
    const std::int64_t first = both.groups().begin(group), last = both.groups().end(group);
    const Tensor gradient = dy.rows(first, last);
    both.add(group, share, kernels::rounded(gradient, conv.keys, first), gradient, dx.rows(first, last));
  });
  return {dx.values, both.weight_gradient()};
}

Grads linear_backward(const ConvBackward& conv, const Shape& x, const Shape& w, const Tensor& dy) {
  Grads grads = conv(dy.reshaped(as_image(dy.shape())));
  return {grads[0] ? grads[0].reshaped(x) : Tensor(), grads[1].reshaped(w), column_sums(dy)};
}

void check_linear(const Var& x, const Var& w, const Var& b) {
  check(x.value().rank() == 2 && w.value().rank() == 2 && x.shape()[1] == w.shape()[1], "linear: input ",
        x.shape(), ", weights ", w.shape());
  check(b.value().numel() == w.shape()[0], "linear: bias ", b.shape(), " for weights ", w.shape());
}

// Returns the weights as packed by the caller, or packs them for this call only.
kernels::PackedWeights packed_or(const Var& w, const kernels::PackedWeights& packed) {
  if (!packed) return w.value();
  check(packed.shape() == w.shape() && packed.dtype() == w.value().dtype(), "packed weights: expected ",
        w.value().dtype(), " ", w.shape(), ", got ", packed.dtype(), " ", packed.shape());
  return packed;
}

void check_one_scale(const kernels::PackedWeights& quantized) {
  check(!quantized.channel_scales(),
        "integer op: weights with a scale for each output channel, expected one");
}

// acc·(x.scale·w.scale) + b in f32.
Tensor biased(const Tensor& accumulators, float scale, const Tensor& bias) {
  return kernels::dequantize(accumulators, Tensor::full({bias.numel()}, scale), bias);
}

}  // namespace

Tensor ConvBackward::operand(const Tensor& images) const {
  const bool is_integer = images.dtype() == DType::u8 || images.dtype() == DType::s8;
  return is_integer ? images : kernels::convert(images, float_dtype());
}

kernels::PackedWeights ConvBackward::operand() const {
  return weights.dtype() == DType::s8 ? weights.integers_as(float_dtype()) : weights.as(float_dtype());
}

Tensor ConvBackward::factors() const { return weights.dtype() == DType::s8 ? weights.scales() : Tensor(); }

Tensor ConvBackward::weight_factors() const {
  const float x_scale = x.is_fixed_point() ? x.fixed_point().scale : 1.0f;
  if (weights.dtype() != DType::s8)
    return x_scale == 1.0f ? Tensor() : Tensor::full({weights.filter_shape()[0]}, x_scale);
  Tensor factors = weights.scales();
  for (float& factor : factors.mutable_span<float>()) factor = x_scale / factor;
  return factors;
}

Tensor ConvBackward::scaled(Tensor gradient) const {
  if (const Tensor by_output = weight_factors()) kernels::scale_rows_in_place(gradient, by_output);
  return gradient;
}

Grads ConvBackward::operator()(const Tensor& dy) const {
  Tensor gradient = dy;
  if (const Tensor by_channel = factors()) gradient = kernels::scaled_channels(dy, by_channel);
  if (has_integer_weight_gradient() || has_integer_data_gradient())
    return in_integers(*this, kernels::convert(gradient, DType::f32));
  gradient = kernels::convert(gradient, float_dtype());
  const InputGradient dx = input_gradient();
  if (dx) data_gradient(gradient, operand(), dx);
  return {dx.values,
          scaled(kernels::conv2d_backward_weights(operand(x), gradient, weights.filter_shape(), geometry))};
}

void check_quantized(const Var& w, const kernels::PackedWeights& quantized) {
  check(quantized.dtype() == DType::s8 && quantized.shape() == w.shape(), "integer op: quantized weights ",
        quantized.dtype(), " ", quantized.shape(), " for ", w.shape());
}

Var conv2d(const Var& x, const Var& w, const ConvGeometry& geometry, const GradFormat& grad_format,
           const kernels::PackedWeights& packed, DType operands) {
  const kernels::PackedWeights weights = packed_or(w, packed).as(operands);
  const Tensor images = kernels::convert(x.value(), operands);
  Tensor y = kernels::conv2d(images, weights, geometry);
  return Var::record("conv2d", std::move(y), {x, w},
                     ConvBackward{images, weights.backward(), geometry, grad_format, x.requires_grad()});
}

Var conv2d_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                   const ConvGeometry& geometry, Engine engine, const GradFormat& grad_format,
                   const RoundingKeys& keys) {
  check_quantized(w, quantized);
  check_one_scale(quantized);
  Tensor acc = kernels::conv2d_integer(x.value(), quantized, geometry, engine);
  const float scale = x.value().fixed_point().scale * quantized.values().fixed_point().scale;
  acc.set_fixed_point({.scale = scale, .bits = 32, .is_signed = true});
  return Var::record(
      "conv2d_integer", std::move(acc), {x, w},
      ConvBackward{x.value(), quantized.backward(), geometry, grad_format, x.requires_grad(), engine, keys});
}

Var linear(const Var& x, const Var& w, const Var& b, const GradFormat& grad_format,
           const kernels::PackedWeights& packed, DType operands) {
  check_linear(x, w, b);
  const kernels::PackedWeights weights = packed_or(w, packed).as(operands);
  const Tensor image = kernels::convert(x.value(), operands).reshaped(as_image(x.shape()));
  Tensor y = kernels::conv2d(image, weights, {}).reshaped({x.shape()[0], w.shape()[0]});
  float* out = y.mutable_data<float>();
  const float* bias = b.value().data<float>();
  for (std::int64_t i = 0; i < y.numel(); ++i) out[i] += bias[i % y.dim(1)];
  const ConvBackward conv{image, weights.backward(), {}, grad_format, x.requires_grad()};
  return Var::record("linear", y, {x, w, b},
                     [conv, xs = x.shape(), ws = w.shape()](const Tensor& dy) -> Grads {
                       return linear_backward(conv, xs, ws, dy);
                     });
}

Var linear_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized, const Var& b,
                   Engine engine, const GradFormat& grad_format, const RoundingKeys& keys) {
  check_linear(x, w, b);
  check_quantized(w, quantized);
  check_one_scale(quantized);
  const Tensor image = x.value().reshaped(as_image(x.shape()));
  const Tensor acc =
      kernels::conv2d_integer(image, quantized, {}, engine).reshaped({x.shape()[0], w.shape()[0]});
  Tensor y = biased(acc, x.value().fixed_point().scale * quantized.values().fixed_point().scale, b.value());
  const ConvBackward conv{image, quantized.backward(), {}, grad_format, x.requires_grad(), engine, keys};
  return Var::record("linear_integer", y, {x, w, b},
                     [conv, xs = x.shape(), ws = w.shape()](const Tensor& dy) -> Grads {
                       return linear_backward(conv, xs, ws, dy);
                     });
}

}  // namespace faq
