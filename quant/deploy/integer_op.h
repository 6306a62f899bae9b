// The ops of an integer network. The eval-mode forward of training and the deployed network execute the same
// objects.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "core/kernels/conv.h"
#include "core/kernels/packed_weights.h"
#include "core/kernels/pool.h"
#include "core/kernels/requantize.h"
#include "quant/deploy/weights.h"

namespace faq {

/// The shape, dtype and format of a tensor.
struct TensorInfo {
  Shape shape = {};
  DType dtype = DType::f32;
  std::optional<FixedPoint> format = {};

  std::int64_t bytes() const { return shape.numel() * static_cast<std::int64_t>(size_of(dtype)); }
};
TensorInfo info_of(const Tensor& tensor);

class OpVisitor;

/// One op: integers in, integers (or f32 logits) out. Immutable. `run` accepts any batch size.
struct IntegerOp {
  IntegerOp() = default;
  IntegerOp(const IntegerOp&) = default;
  IntegerOp& operator=(const IntegerOp&) = default;
  virtual ~IntegerOp() = default;

  std::string name;  ///< the name of the unit it was made from

  virtual const char* kind() const = 0;
  /// Calls the visitor's function for this kind.
  virtual void accept(OpVisitor& visitor) const = 0;
  /// Returns the shape, dtype and format of the result. `inputs`: one entry for each input of the op's node.
  /// Throws when the op cannot take them.
  virtual TensorInfo result(std::span<const TensorInfo> inputs) const = 0;
  /// Bytes of memory the op needs besides its inputs and its result; an estimate. IntegerNetwork refuses an
  /// op that needs too much, so that a file cannot demand any amount of memory.
  virtual std::int64_t working_bytes(std::span<const TensorInfo> /*inputs*/) const { return 0; }
  /// Writes the result to `out`. `out` must have the shape, dtype and format that result() returns.
  virtual void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const = 0;
  /// Returns the result in a new tensor.
  Tensor run(std::span<const Tensor> inputs, Engine engine) const;
};

/// Maps pixels to the quantized, normalised input with a table of 256 values per channel.
struct InputOp final : IntegerOp {
  Tensor table;  ///< C,256 s8 with a scale
  const char* kind() const override { return "input"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// Convolution, then kernels::requantize with batch-norm, residual (the second input, if any), ReLU and
/// clipping. The multiplier of a residual must be residual_multiplier() of its scale.
struct ConvOp final : IntegerOp {
  QuantizedWeights weights;  ///< O,I,H,W
  ConvGeometry geometry;
  kernels::Requantize requantize;
  kernels::WeightPacker packer;
  const char* kind() const override { return "conv"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  std::int64_t working_bytes(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

float residual_multiplier(float residual_scale, const FixedPoint& output);

/// kernels::requantize of its input, without a convolution: a normalisation in front of a convolution.
struct NormActOp final : IntegerOp {
  kernels::Requantize requantize;
  const char* kind() const override { return "norm_act"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

struct ShortcutOp final : IntegerOp {
  int stride = 1;
  std::int64_t out_channels = 0;
  const char* kind() const override { return "shortcut"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

struct MaxPoolOp final : IntegerOp {
  kernels::MaxPoolOptions options;
  const char* kind() const override { return "max_pool"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// Means, rounded to the scale of the input. result() throws usage when the sum over a window is not exact in
/// f32.
struct AvgPoolOp final : IntegerOp {
  kernels::AvgPoolOptions options;
  const char* kind() const override { return "avg_pool"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// Concatenates along the channels. All inputs must have one format.
struct ConcatOp final : IntegerOp {
  const char* kind() const override { return "concat"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// Sums over height and width: s32 with scale x.scale/(H·W). result() throws usage when an image is so large
/// that the sums overflow.
struct GlobalAvgPoolOp final : IntegerOp {
  const char* kind() const override { return "global_avg_pool"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// The classifier. Quantizes s32 sums to `input`, or takes u8 or s8 that have that format already. Then
/// multiplies with the weights and adds the bias. The result is f32 logits.
struct LinearOp final : IntegerOp {
  FixedPoint input;
  QuantizedWeights weights;  ///< O,I
  Tensor multiplier;         ///< O; every value is logit_scale()
  Tensor bias;               ///< O
  kernels::WeightPacker packer;
  const char* kind() const override { return "linear"; }
  void accept(OpVisitor& visitor) const override;
  TensorInfo result(std::span<const TensorInfo> inputs) const override;
  void run_into(std::span<const Tensor> inputs, Engine engine, Tensor& out) const override;
};

/// The scale of an accumulator: input.scale·weights.scale.
float logit_scale(const LinearOp& op);

/// Returns the weights of an op, or null for an op that has none.
const QuantizedWeights* weights_of(const IntegerOp& op);

/// One function per kind of op. An exporter derives from this class. When a new kind is added, an exporter
/// that does not handle it fails to compile.
class OpVisitor {
 public:
  virtual ~OpVisitor() = default;
  virtual void visit(const InputOp& op) = 0;
  virtual void visit(const ConvOp& op) = 0;
  virtual void visit(const NormActOp& op) = 0;
  virtual void visit(const ShortcutOp& op) = 0;
  virtual void visit(const MaxPoolOp& op) = 0;
  virtual void visit(const AvgPoolOp& op) = 0;
  virtual void visit(const ConcatOp& op) = 0;
  virtual void visit(const GlobalAvgPoolOp& op) = 0;
  virtual void visit(const LinearOp& op) = 0;
};

/// For visitors that handle some kinds only: the other functions do nothing.
class PartialOpVisitor : public OpVisitor {
 public:
  void visit(const InputOp&) override {}
  void visit(const ConvOp&) override {}
  void visit(const NormActOp&) override {}
  void visit(const ShortcutOp&) override {}
  void visit(const MaxPoolOp&) override {}
  void visit(const AvgPoolOp&) override {}
  void visit(const ConcatOp&) override {}
  void visit(const GlobalAvgPoolOp&) override {}
  void visit(const LinearOp&) override {}
};

}  // namespace faq
