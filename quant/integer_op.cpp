#include "quant/integer_op.h"

#include "core/kernels/concat.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/pixels.h"
#include "core/kernels/unit.h"

namespace faq {
namespace {

void expect_inputs(const IntegerOp& op, std::span<const Tensor> inputs, std::size_t least, std::size_t most) {
  check(inputs.size() >= least && inputs.size() <= most, op.kind(), " '", op.name, "': ", inputs.size(),
        " inputs");
}

}  // namespace

Tensor InputOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return kernels::map_pixels(inputs[0], table);
}

Tensor ConvOp::run(std::span<const Tensor> inputs, Engine engine) const {
  expect_inputs(*this, inputs, 1, 2);
  return kernels::conv2d_requantize(inputs[0], weights.values, options, engine,
                                    inputs.size() > 1 ? inputs[1] : Tensor(), requantize);
}

Tensor NormActOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return kernels::requantize(inputs[0], {}, requantize);
}

Tensor ShortcutOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return kernels::subsample_and_pad(inputs[0], stride, out_channels);
}

Tensor MaxPoolOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return kernels::max_pool(inputs[0], options);
}

Tensor AvgPoolOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return kernels::avg_pool(inputs[0], options);
}

Tensor ConcatOp::run(std::span<const Tensor> inputs, Engine) const {
  return kernels::concat_channels(inputs);
}

Tensor GlobalAvgPoolOp::run(std::span<const Tensor> inputs, Engine) const {
  expect_inputs(*this, inputs, 1, 1);
  return global_avg_pool(Var(inputs[0])).value();
}

Tensor LinearOp::run(std::span<const Tensor> inputs, Engine engine) const {
  expect_inputs(*this, inputs, 1, 1);
  const bool is_image = inputs[0].rank() == 4 && inputs[0].dim(1) == 1 && inputs[0].dim(2) == 1;
  const Tensor x = is_image ? inputs[0].reshaped({inputs[0].dim(0), inputs[0].dim(3)}) : inputs[0];
  const Tensor& w = weights.values;
  check(x.rank() == 2 && x.dim(1) == w.dim(1), "linear '", name, "': input ", x.shape(), ", weights ",
        w.shape());
  const Tensor q = kernels::quantize(x, input);
  const Tensor accumulators = kernels::conv2d_integer(q.reshaped({x.dim(0), 1, 1, x.dim(1)}),
                                                      w.reshaped({w.dim(0), w.dim(1), 1, 1}), {}, engine);
  return kernels::dequantize(accumulators.reshaped({x.dim(0), w.dim(0)}), multiplier, bias);
}

}  // namespace faq
