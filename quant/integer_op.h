// The ops of an integer network. Training's eval-mode forward and the deployed network execute the same ones.
#pragma once

#include <memory>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "core/kernels/pool.h"
#include "core/kernels/requantize.h"
#include "core/ops.h"
#include "core/safetensors.h"
#include "quant/weights.h"

namespace faq {

/// Integers in, integers (or f32 logits) out. Immutable; `run` may be called with any batch size.
struct IntegerOp : OpInfo {
  std::string name;  ///< of the unit it was made from

  virtual const char* kind() const = 0;
  /// `inputs`: as many as the op was given when it was recorded.
  virtual Tensor run(std::span<const Tensor> inputs, Engine engine) const = 0;
};

/// Pixels to the quantized, normalised input: a table of 256 values per channel.
struct InputOp final : IntegerOp {
  Tensor table;  ///< C,256 s8 with a step
  const char* kind() const override { return "input"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// Convolution, then kernels::requantize with batch-norm, residual (the second input, if any), ReLU and
/// clipping.
struct ConvOp final : IntegerOp {
  QuantizedWeights weights;  ///< O,I,H,W
  ConvOptions options;
  kernels::Requantize requantize;
  const char* kind() const override { return "conv"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// kernels::requantize of integers that are there already: a normalisation in front of a convolution.
struct NormActOp final : IntegerOp {
  kernels::Requantize requantize;
  const char* kind() const override { return "norm_act"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

struct ShortcutOp final : IntegerOp {
  int stride = 1;
  std::int64_t out_channels = 0;
  const char* kind() const override { return "shortcut"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

struct MaxPoolOp final : IntegerOp {
  kernels::MaxPoolOptions options;
  const char* kind() const override { return "max_pool"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// Means, rounded to the step of the input.
struct AvgPoolOp final : IntegerOp {
  kernels::AvgPoolOptions options;
  const char* kind() const override { return "avg_pool"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// Along the channels; all inputs have one format.
struct ConcatOp final : IntegerOp {
  const char* kind() const override { return "concat"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// Sums over height and width, s32 with step x.step/(H·W).
struct GlobalAvgPoolOp final : IntegerOp {
  const char* kind() const override { return "global_avg_pool"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// Quantizes s32 values to the classifier's input, multiplies, adds the bias: f32 logits.
struct LinearOp final : IntegerOp {
  FixedPoint input;
  QuantizedWeights weights;  ///< O,I
  Tensor multiplier;         ///< O
  Tensor bias;               ///< O
  const char* kind() const override { return "linear"; }
  Tensor run(std::span<const Tensor> inputs, Engine engine) const override;
};

/// An op as JSON and tensors (named after the op), and back. Reading throws bad_data for anything missing or
/// out of range.
nlohmann::json describe(const IntegerOp& op, NamedTensors& tensors);
std::shared_ptr<const IntegerOp> parse_op(const nlohmann::json& description, const NamedTensors& tensors);

}  // namespace faq
