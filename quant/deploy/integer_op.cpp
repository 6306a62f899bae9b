#include "quant/deploy/integer_op.h"

#include <algorithm>
#include <cstdlib>
#include <limits>

#include "core/kernels/concat.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/pixels.h"
#include "core/kernels/requantizer.h"
#include "core/kernels/unit.h"

namespace faq {
namespace {

using Infos = std::span<const TensorInfo>;

void expect_inputs(const IntegerOp& op, Infos inputs, std::size_t least, std::size_t most) {
  check(inputs.size() >= least && inputs.size() <= most, op.kind(), " '", op.name, "': ", inputs.size(),
        " inputs");
}

// Checks that x is 8-bit integers with a scale.
const TensorInfo& integers(const IntegerOp& op, const TensorInfo& x) {
  check((x.dtype == DType::u8 || x.dtype == DType::s8) && x.format, op.kind(), " '", op.name,
        "': expected 8-bit integers with a scale, got ", x.dtype, " ", x.shape);
  return x;
}

TensorInfo quantized(const Shape& shape, const FixedPoint& format) {
  return {shape, format.is_signed ? DType::s8 : DType::u8, format};
}

// A pooled image (N,1,1,C), or a value that is N,C already, as rows N,C.
Shape rows_of(const Shape& x) {
  const bool is_image = x.rank() == 4 && x[1] == 1 && x[2] == 1;
  return is_image ? Shape{x[0], x[3]} : x;
}

constexpr std::int64_t exact_in_f32 = 1 << 24;

bool sum_fits(std::int64_t count, const FixedPoint& format, std::int64_t limit) {
  return count <= limit / std::max(std::abs(format.min()), format.max());
}

}  // namespace

TensorInfo info_of(const Tensor& t) {
  return {t.shape(), t.dtype(), t.is_fixed_point() ? std::optional(t.fixed_point()) : std::nullopt};
}

Tensor IntegerOp::run(std::span<const Tensor> inputs, Engine engine) const {
  std::vector<TensorInfo> infos;
  for (const Tensor& input : inputs) infos.push_back(info_of(input));
  const TensorInfo info = result(infos);
  Tensor out = Tensor::empty(info.shape, info.dtype);
  if (info.format) out.set_fixed_point(*info.format);
  run_into(inputs, engine, out);
  return out;
}

void InputOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void ConvOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void NormActOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void ShortcutOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void MaxPoolOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void AvgPoolOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void ConcatOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void GlobalAvgPoolOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }
void LinearOp::accept(OpVisitor& visitor) const { visitor.visit(*this); }

const QuantizedWeights* weights_of(const IntegerOp& op) {
  struct Weights final : PartialOpVisitor {
    using PartialOpVisitor::visit;
    void visit(const ConvOp& conv) override { found = &conv.weights; }
    void visit(const LinearOp& linear) override { found = &linear.weights; }
    const QuantizedWeights* found = nullptr;
  } weights;
  op.accept(weights);
  return weights.found;
}

TensorInfo InputOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  const TensorInfo& x = inputs[0];
  check(x.dtype == DType::u8 && x.shape.rank() == 4 && x.shape[3] == table.dim(0), "input '", name,
        "': a table for ", table.dim(0), " channels, images ", x.dtype, " ", x.shape);
  return {x.shape, table.dtype(), info_of(table).format};
}

void InputOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::map_pixels(inputs[0], table, out);
}

TensorInfo ConvOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 2);
  for (const TensorInfo& x : inputs) integers(*this, x);
  const Shape y = kernels::conv2d_shape(inputs[0].shape, weights.values.shape(), geometry);
  if (inputs.size() > 1) {
    check(inputs[1].shape == y, "conv '", name, "': a residual ", inputs[1].shape, " for ", y);
    const float expected = residual_multiplier(inputs[1].format->scale, requantize.format);
    check(requantize.residual_multiplier == expected, "conv '", name, "': a residual multiplier of ",
          requantize.residual_multiplier, ", ", expected, " by the scales");
  }
  return quantized(y, requantize.format);
}

// The 32-bit sums, and the shifted and padded copy of a signed input (kernels::conv2d_integer), of all images
// at once: more than slices or tiles take.
std::int64_t ConvOp::working_bytes(Infos inputs) const {
  const Shape& x = inputs[0].shape;
  const std::int64_t sums = kernels::conv2d_shape(x, weights.values.shape(), geometry).numel() * 4;
  const bool is_copied = inputs[0].dtype == DType::s8;
  return sums + (is_copied ? x[0] * (x[1] + geometry.padding.top + geometry.padding.bottom) *
                                 (x[2] + geometry.padding.left + geometry.padding.right) * x[3]
                           : 0);
}

void ConvOp::run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const {
  kernels::conv2d_requantize(inputs[0], packer(weights.values), geometry, engine,
                             inputs.size() > 1 ? inputs[1] : Tensor(), requantize, out);
}

float residual_multiplier(float residual_scale, const FixedPoint& output) {
  return static_cast<float>(residual_scale / static_cast<double>(output.scale));
}

TensorInfo NormActOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  const Shape& x = integers(*this, inputs[0]).shape;
  check(x.rank() > 0 && x[x.rank() - 1] == requantize.multiplier.numel(), "norm_act '", name,
        "': ", requantize.multiplier.numel(), " multipliers for ", x);
  return quantized(x, requantize.format);
}

void NormActOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::requantize(inputs[0], {}, requantize, out);
}

TensorInfo ShortcutOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  TensorInfo y = integers(*this, inputs[0]);
  y.shape = kernels::subsample_and_pad_shape(y.shape, stride, out_channels);
  return y;
}

void ShortcutOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::subsample_and_pad(inputs[0], stride, out_channels, out);
}

TensorInfo MaxPoolOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  TensorInfo y = integers(*this, inputs[0]);
  y.shape = kernels::max_pool_shape(y.shape, options);
  return y;
}

void MaxPoolOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::max_pool(inputs[0], options, out);
}

TensorInfo AvgPoolOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  TensorInfo y = integers(*this, inputs[0]);
  const Shape x = y.shape;
  y.shape = kernels::avg_pool_shape(x, options);
  // At least the size of the largest window (kernels::avg_pool).
  const std::int64_t height = options.output > 0 ? x[1] / options.output + 2 : options.kernel,
                     width = options.output > 0 ? x[2] / options.output + 2 : options.kernel;
  check(sum_fits(height * width, *y.format, exact_in_f32), ErrorKind::usage, "avg_pool '", name, "': images ",
        x, ": windows of ", height, "×", width, " have sums that f32 rounds: smaller images are needed");
  return y;
}

void AvgPoolOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::avg_pool(inputs[0], options, out);
}

TensorInfo ConcatOp::result(Infos inputs) const {
  std::vector<Shape> shapes;
  for (const TensorInfo& x : inputs) {
    shapes.push_back(integers(*this, x).shape);
    check(x.dtype == inputs[0].dtype && x.format == inputs[0].format, "concat '", name,
          "': scales are not tied");
  }
  return {kernels::concat_channels_shape(shapes), inputs[0].dtype, inputs[0].format};
}

void ConcatOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  kernels::concat_channels(inputs, out);
}

TensorInfo GlobalAvgPoolOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  const TensorInfo& x = integers(*this, inputs[0]);
  check(x.shape.rank() == 4 && x.shape[1] * x.shape[2] > 0, "global_avg_pool: images of ", x.shape);
  const std::int64_t pixels = x.shape[1] * x.shape[2];
  check(sum_fits(pixels, *x.format, std::numeric_limits<std::int32_t>::max()), ErrorKind::usage,
        "global_avg_pool '", name, "': images ", x.shape, ": sums of ", pixels,
        " pixels leave 32 bits: smaller images are needed");
  return {{x.shape[0], x.shape[3]}, DType::s32, kernels::mean_format(*x.format, pixels)};
}

void GlobalAvgPoolOp::run_into(std::span<const Tensor> inputs, Engine, Tensor& out) const {
  Tensor sums = out.reshaped({out.dim(0), 1, 1, out.dim(1)});
  kernels::global_sum_pool(inputs[0], sums);
}

TensorInfo LinearOp::result(Infos inputs) const {
  expect_inputs(*this, inputs, 1, 1);
  const Shape x = rows_of(inputs[0].shape);
  const Tensor& w = weights.values;
  check(x.rank() == 2 && x[1] == w.dim(1), "linear '", name, "': input ", x, ", weights ", w.shape());
  check(inputs[0].format && (inputs[0].dtype == DType::s32 || inputs[0].format == input), "linear '", name,
        "': expected s32 sums with a scale or integers as its input is (", input, ")");
  return {{x[0], w.dim(0)}, DType::f32, {}};
}

void LinearOp::run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const {
  const Tensor x = inputs[0].reshaped(rows_of(inputs[0].shape()));
  const Tensor& w = weights.values;
  const Tensor q = kernels::quantize(x, input);
  const Tensor accumulators =
      kernels::conv2d_integer(q.reshaped({x.dim(0), 1, 1, x.dim(1)}), packer(w), {}, engine);
  kernels::dequantize(accumulators.reshaped({x.dim(0), w.dim(0)}), multiplier, bias, out);
}

float logit_scale(const LinearOp& op) { return op.input.scale * op.weights.values.fixed_point().scale; }

}  // namespace faq
