// The units that models are written in.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "core/ops.h"
#include "nn/module.h"
#include "nn/quantized_forms.h"

namespace faq {

/// Maps pixels to normalised values, (pixel/255 − mean)/std per channel. u8 N,H,W,C in, f32 out. Throws usage
/// when means and standard deviations differ in number or are none, and for a standard deviation that is not
/// positive.
class Input final : public Unit {
 public:
  Input(std::vector<float> mean, std::vector<float> std);
  Var compute(const Pass& pass, Inputs inputs) override;
  UnitRole role() const override { return UnitRole::input; }
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }

  int channels() const { return static_cast<int>(mean_.size()); }
  const std::vector<float>& mean() const { return mean_; }
  const std::vector<float>& std() const { return std_; }
  /// f32 C,256: the normalised value of every pixel value.
  const Tensor& table() const { return table_; }

 private:
  std::vector<float> mean_;
  std::vector<float> std_;
  Tensor table_;
};

/// A convolution, and what is fused to it: an affine map per channel (a normalisation or a bias), then an
/// optional activation.
class ConvUnit : public Unit {
 public:
  Var compute(const Pass& pass, Inputs inputs) override;
  UnitRole role() const override { return UnitRole::convolution; }
  bool makes_nonnegative() const override { return activation_.low >= 0; }
  NormState* batch_norm() override { return has_batch_norm() ? &norm_ : nullptr; }
  Var* weights() override { return &weight_; }
  void initialize(Random& random) override;
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }

  /// Lists what belongs to the convolution, and what to the normalisation: these may have separate names in
  /// checkpoints (Visitor::child). A unit with a batch-norm calls visit_batch_norm().
  virtual void visit_conv(Visitor& visitor) = 0;
  virtual void visit_norm(Visitor&) {}

  /// The weights in the shape they have in checkpoints.
  Var& weight() { return weight_; }
  /// The weights as O,I,H,W.
  virtual Var filter() { return weight_; }
  /// filter() packed for floating-point kernels, once for each version of the weights.
  kernels::PackedWeights packed(const Var& filter) const { return packer_(filter.value()); }
  void release_packed() const { packer_.release(); }
  NormState& norm() { return norm_; }
  /// The geometry for images of this shape (ConvNormActOptions::same_padding depends on it).
  ConvGeometry geometry(const Shape& images) const {
    return same_padding_ ? geometry_.with_same_padding(images) : geometry_;
  }
  const Activation& activation() const { return activation_; }
  /// True if `norm` is a batch-norm: in training it uses the statistics of the batch. If false, its scale and
  /// its statistics are constants that change nothing.
  virtual bool has_batch_norm() const = 0;
  /// True if the unit normalises with the statistics of the batch in this pass.
  bool with_batch_statistics(const Pass& pass) const {
    return has_batch_norm() && pass.with_batch_statistics();
  }
  NormActOptions norm_options(const Pass& pass, std::optional<FixedPoint> format) const {
    return {.activation = activation_, .format = format, .batch_statistics = with_batch_statistics(pass)};
  }

 protected:
  ConvUnit(const Shape& weight, int out_channels, const ConvGeometry& geometry, bool same_padding,
           const Activation& activation, float eps);

  /// Lists norm() under PyTorch's names: `weight`, `bias`, `running_mean` and `running_var`.
  void visit_batch_norm(Visitor& visitor);

  Var weight_;
  NormState norm_;

 private:
  ConvGeometry geometry_;
  bool same_padding_;
  kernels::WeightPacker packer_;
  Activation activation_;
};

struct ConvNormActOptions {
  int stride = 1;
  Extent padding = 0;
  bool same_padding = false;  ///< instead of `padding`: ConvGeometry::with_same_padding
  int groups = 1;
  Activation activation = Activation::relu;
  float eps = 1e-5f;
  bool bias = false;  ///< bias of the convolution (VGG); it is part of the running mean, see NormState
};

/// Convolution → batch-norm → optional residual sum → optional activation.
class ConvNormAct final : public ConvUnit {
 public:
  ConvNormAct(int in_channels, int out_channels, Extent kernel, const ConvNormActOptions& options = {});

  void visit_conv(Visitor& visitor) override;
  void visit_norm(Visitor& visitor) override;
  bool has_batch_norm() const override { return true; }

 private:
  void visit_own(Visitor& visitor) override;
};

struct ConvActOptions {
  int stride = 1;
  Extent padding = 0;
  Activation activation = Activation::relu;
  bool bias = true;
  bool as_matrix = false;  ///< for a fully connected layer: the weights in checkpoints are O,(I·H·W)
};

/// Convolution → optional bias → optional ReLU.
class ConvAct final : public ConvUnit {
 public:
  ConvAct(int in_channels, int out_channels, Extent kernel, const ConvActOptions& options = {});
  Var filter() override;
  void visit_conv(Visitor& visitor) override { visit_own(visitor); }
  bool has_batch_norm() const override { return false; }

 private:
  void visit_own(Visitor& visitor) override;

  Shape filter_;
  bool bias_;
};

/// Batch-norm → ReLU, in front of a convolution instead of after it (the order in DenseNet).
class NormAct final : public Unit {
 public:
  explicit NormAct(int channels, float eps = 1e-5f);
  Var compute(const Pass& pass, Inputs inputs) override;
  UnitRole role() const override { return UnitRole::normalization; }
  bool makes_nonnegative() const override { return true; }
  NormState* batch_norm() override { return &norm_; }
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
  NormState& norm() { return norm_; }

 private:
  void visit_own(Visitor& visitor) override;

  NormState norm_;
};

/// He et al.'s parameter-free shortcut A: subsampled identity, zero-padded in channels.
class Shortcut final : public Unit {
 public:
  Shortcut(int in_channels, int out_channels, int stride)
      : in_channels_(in_channels), out_channels_(out_channels), stride_(stride) {}
  Var compute(const Pass& pass, Inputs inputs) override;
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
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
  Var compute(const Pass& pass, Inputs inputs) override;
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
  const kernels::MaxPoolOptions& options() const { return options_; }

 private:
  kernels::MaxPoolOptions options_;
};

/// Means of windows. In integers, the means are rounded to the scale of the input.
class AvgPool final : public Unit {
 public:
  explicit AvgPool(const kernels::AvgPoolOptions& options) : options_(options) {}
  Var compute(const Pass& pass, Inputs inputs) override;
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
  const kernels::AvgPoolOptions& options() const { return options_; }

 private:
  kernels::AvgPoolOptions options_;
};

/// Concatenates along the channels. All inputs are quantized with one scale.
class Concat final : public Unit {
 public:
  Var compute(const Pass& /*pass*/, Inputs inputs) override { return concat_channels(inputs); }
  UnitRole role() const override { return UnitRole::concatenation; }
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
};

/// In training, sets values to 0 with probability p and multiplies the others by 1/(1 − p). The values are
/// drawn from the keys of the pass; throws if the pass does not name one sample per image. `layer`: a number
/// that is different for each dropout of a network.
class Dropout final : public Unit {
 public:
  explicit Dropout(float p, std::uint64_t layer = 0) : p_(p), layer_(layer) {}
  Var compute(const Pass& pass, Inputs inputs) override;
  /// Null: deployment has no dropout.
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms&) override { return nullptr; }
  float probability() const { return p_; }
  void set_probability(float p) { p_ = p; }

 private:
  float p_;
  std::uint64_t layer_;
};

/// Mean over height and width: N,H,W,C to N,C.
class GlobalAvgPool final : public Unit {
 public:
  Var compute(const Pass& pass, Inputs inputs) override;
  UnitRole role() const override { return UnitRole::mean; }
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
};

/// Reshapes N,1,1,C to N,C. Returns any N,C as it is.
Var as_rows(const Var& x);

/// y = x·wᵀ + b. N,C (or N,1,1,C) in, N,K out.
class Linear final : public Unit {
 public:
  /// `dropout`: probability of the dropout of the input, after the input has been quantized.
  Linear(int in_features, int out_features, float dropout = 0);
  Var compute(const Pass& pass, Inputs inputs) override;
  UnitRole role() const override { return UnitRole::linear; }
  Var* weights() override { return &weight_; }
  void initialize(Random& random) override;
  std::shared_ptr<Adapter> quantized_form(const QuantizedForms& forms) override { return forms.of(*this); }
  Dropout& dropout() { return dropout_; }
  Var& weight() { return weight_; }
  /// The weights packed for floating-point kernels, once for each version of the weights.
  kernels::PackedWeights packed_weight() const { return packer_(weight_.value()); }
  void release_packed() const { packer_.release(); }
  Var& bias() { return bias_; }

 private:
  void visit_own(Visitor& visitor) override;

  Var weight_;
  Var bias_;
  Dropout dropout_;
  kernels::WeightPacker packer_;
};

}  // namespace faq
