// The units models are written in.
#pragma once

#include <vector>

#include "core/ops.h"
#include "nn/module.h"

namespace faq {

/// Pixels to normalised values: (pixel/255 − mean)/std per channel. u8 N,H,W,C in, f32 out.
class Input final : public Unit {
 public:
  Input(std::vector<float> mean, std::vector<float> std);
  Var compute(const Var& images, const Var& residual) override;

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

struct ConvNormActOptions {
  int stride = 1;
  int padding = 0;
  bool relu = true;
  float eps = 1e-5f;
};

/// Convolution (no bias) → batch-norm → optional residual sum → optional ReLU.
class ConvNormAct final : public Unit {
 public:
  ConvNormAct(int in_channels, int out_channels, int kernel, const ConvNormActOptions& options = {});
  Var compute(const Var& x, const Var& residual) override;

  /// The two halves have names of their own in checkpoints: see Visitor::child.
  void visit_conv(Visitor& visitor);
  void visit_norm(Visitor& visitor);

  Var& weight() { return weight_; }
  NormState& norm() { return norm_; }
  const ConvNormActOptions& options() const { return options_; }
  ConvOptions conv_options() const { return {.stride = options_.stride, .padding = options_.padding}; }

 private:
  void visit_own(Visitor& visitor) override;

  ConvNormActOptions options_;
  Var weight_;
  NormState norm_;
};

/// He et al.'s parameter-free shortcut A: subsampled identity, zero-padded in channels.
class Shortcut final : public Unit {
 public:
  Shortcut(int in_channels, int out_channels, int stride)
      : in_channels_(in_channels), out_channels_(out_channels), stride_(stride) {}
  Var compute(const Var& x, const Var& residual) override;
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
  Var compute(const Var& x, const Var& residual) override;
  const kernels::MaxPoolOptions& options() const { return options_; }

 private:
  kernels::MaxPoolOptions options_;
};

/// Mean over height and width: N,H,W,C to N,C.
class GlobalAvgPool final : public Unit {
 public:
  Var compute(const Var& x, const Var& residual) override;
};

/// y = x·wᵀ + b. N,C in, N,K out.
class Linear final : public Unit {
 public:
  Linear(int in_features, int out_features);
  Var compute(const Var& x, const Var& residual) override;
  Var& weight() { return weight_; }
  Var& bias() { return bias_; }

 private:
  void visit_own(Visitor& visitor) override;

  Var weight_;
  Var bias_;
};

}  // namespace faq
