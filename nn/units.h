// The units models are written in.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/ops.h"
#include "nn/module.h"

namespace faq {

/// Pixels to normalised values: (pixel/255 − mean)/std per channel. u8 N,H,W,C in, f32 out.
class Input final : public Unit {
 public:
  Input(std::vector<float> mean, std::vector<float> std);
  Var compute(Inputs inputs) override;

  int channels() const { return static_cast<int>(mean_.size()); }
  const std::vector<float>& mean() const { return mean_; }
  const std::vector<float>& std() const { return std_; }
  /// C,256: the normalised value of every pixel value, f32.
  const Tensor& table() const { return table_; }

 private:
  std::vector<float> mean_;
  std::vector<float> std_;
  Tensor table_;
};

/// A convolution with what is fused to it: an affine map per channel (a normalisation, or a bias), then
/// perhaps ReLU.
class ConvUnit : public Unit {
 public:
  Var compute(Inputs inputs) override;

  /// As checkpoints have it.
  Var& weight() { return weight_; }
  /// O,I,H,W.
  virtual Var filter() { return weight_; }
  NormState& norm() { return norm_; }
  const ConvOptions& conv_options() const { return conv_; }
  bool relu() const { return relu_; }
  float eps() const { return eps_; }
  /// Whether `norm` normalises, with the statistics of the batch in training. Otherwise its scale and
  /// statistics are constants that change nothing.
  virtual bool has_batch_norm() const = 0;
  NormActOptions norm_options(std::optional<FixedPoint> format) const {
    return {.relu = relu_, .format = format, .training = has_batch_norm() && training(), .eps = eps_};
  }

 protected:
  ConvUnit(const Shape& weight, int out_channels, const ConvOptions& conv, bool relu, float eps);

  Var weight_;
  NormState norm_;

 private:
  ConvOptions conv_;
  bool relu_;
  float eps_;
};

struct ConvNormActOptions {
  int stride = 1;
  Extent padding = 0;
  bool relu = true;
  float eps = 1e-5f;
  bool bias = false;  ///< of the convolution (VGG): part of the running mean, see NormState
};

/// Convolution → batch-norm → optional residual sum → optional ReLU.
class ConvNormAct final : public ConvUnit {
 public:
  ConvNormAct(int in_channels, int out_channels, Extent kernel, const ConvNormActOptions& options = {});

  /// The two halves have names of their own in checkpoints: see Visitor::child.
  void visit_conv(Visitor& visitor);
  void visit_norm(Visitor& visitor);
  bool has_batch_norm() const override { return true; }

 private:
  void visit_own(Visitor& visitor) override;
};

struct ConvActOptions {
  int stride = 1;
  Extent padding = 0;
  bool relu = true;
  bool bias = true;
  bool as_matrix = false;  ///< a fully connected layer's: checkpoints have it as O,(I·H·W)
};

/// Convolution → optional bias → optional ReLU.
class ConvAct final : public ConvUnit {
 public:
  ConvAct(int in_channels, int out_channels, Extent kernel, const ConvActOptions& options = {});
  Var filter() override;
  bool has_batch_norm() const override { return false; }

 private:
  void visit_own(Visitor& visitor) override;

  Shape filter_;
  bool bias_;
};

/// Batch-norm → ReLU, before a convolution instead of behind it (DenseNet's order).
class NormAct final : public Unit {
 public:
  explicit NormAct(int channels, float eps = 1e-5f);
  Var compute(Inputs inputs) override;
  NormState& norm() { return norm_; }
  float eps() const { return eps_; }

 private:
  void visit_own(Visitor& visitor) override;

  NormState norm_;
  float eps_;
};

/// He et al.'s parameter-free shortcut A: subsampled identity, zero-padded in channels.
class Shortcut final : public Unit {
 public:
  Shortcut(int in_channels, int out_channels, int stride)
      : in_channels_(in_channels), out_channels_(out_channels), stride_(stride) {}
  Var compute(Inputs inputs) override;
  bool is_identity() const { return stride_ == 1 && in_channels_ == out_channels_; }
  int stride() const { return stride_; }
  int out_channels() const { return out_channels_; }

 private:
  int in_channels_;
  int out_channels_;
  int stride_;
};

class MaxPool final : public Unit {
 public:
  explicit MaxPool(const kernels::MaxPoolOptions& options) : options_(options) {}
  Var compute(Inputs inputs) override;
  const kernels::MaxPoolOptions& options() const { return options_; }

 private:
  kernels::MaxPoolOptions options_;
};

/// Means of windows; in integers rounded to the scale of what they are means of.
class AvgPool final : public Unit {
 public:
  explicit AvgPool(const kernels::AvgPoolOptions& options) : options_(options) {}
  Var compute(Inputs inputs) override;
  const kernels::AvgPoolOptions& options() const { return options_; }

 private:
  kernels::AvgPoolOptions options_;
};

/// Along the channels. What is concatenated is quantized with one scale.
class Concat final : public Unit {
 public:
  Var compute(Inputs inputs) override { return concat_channels(inputs); }
};

/// The samples of a batch: what random layers draw from, so that a mask depends on (seed, epoch, sample) and
/// not on the batch a sample happens to be in.
struct SampleKeys {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::vector<std::int64_t> samples;  ///< positions in the data set
};

/// In training, zeroes values with probability p and multiplies the others by 1/(1 − p). Wants set_samples
/// before every forward pass.
class Dropout final : public Unit {
 public:
  explicit Dropout(float p) : p_(p) {}
  Var compute(Inputs inputs) override;
  float probability() const { return p_; }
  void set_probability(float p) { p_ = p; }
  /// `layer`: distinguishes the layers of a network.
  void set_samples(std::shared_ptr<const SampleKeys> keys, std::uint64_t layer) {
    keys_ = std::move(keys);
    layer_ = layer;
  }

 private:
  float p_;
  std::shared_ptr<const SampleKeys> keys_;
  std::uint64_t layer_ = 0;
};

/// For the next forward pass of a model in training mode.
void set_samples(Module& module, SampleKeys keys);

/// Mean over height and width: N,H,W,C to N,C.
class GlobalAvgPool final : public Unit {
 public:
  Var compute(Inputs inputs) override;
};

/// N,1,1,C as N,C; N,C as it is.
Var as_rows(const Var& x);

/// y = x·wᵀ + b. N,C (or N,1,1,C) in, N,K out.
class Linear final : public Unit {
 public:
  /// `dropout`: of what it reads, behind the quantization of it.
  Linear(int in_features, int out_features, float dropout = 0);
  Var compute(Inputs inputs) override;
  Dropout& dropout() { return dropout_; }
  Var& weight() { return weight_; }
  Var& bias() { return bias_; }

 private:
  void visit_own(Visitor& visitor) override;

  Var weight_;
  Var bias_;
  Dropout dropout_;
};

}  // namespace faq
