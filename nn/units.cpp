#include "nn/units.h"

#include "core/kernels/pixels.h"

namespace faq {
namespace {

void no_residual(const char* unit, const Var& residual) {
  check(!residual.defined(), unit, ": takes no residual");
}

}  // namespace

Input::Input(std::vector<float> mean, std::vector<float> std)
    : mean_(std::move(mean)), std_(std::move(std)), table_(Tensor::empty({channels(), 256})) {
  check(!mean_.empty() && mean_.size() == std_.size(), ErrorKind::usage, "input: ", mean_.size(),
        " means and ", std_.size(), " standard deviations");
  float* table = table_.mutable_data<float>();
  for (int c = 0; c < channels(); ++c) {
    check(std_[c] > 0, ErrorKind::usage, "input: standard deviation ", std_[c], " of channel ", c,
          " is not positive");
    for (int pixel = 0; pixel < 256; ++pixel) {
      table[c * 256 + pixel] = (static_cast<float>(pixel) / 255.0f - mean_[c]) / std_[c];
    }
  }
}

Var Input::compute(const Var& images, const Var& residual) {
  no_residual("input", residual);
  return Var(kernels::map_pixels(images.value(), table_));
}

ConvNormAct::ConvNormAct(int in_channels, int out_channels, int kernel, const ConvNormActOptions& options)
    : options_(options),
      weight_(Tensor::zeros({out_channels, in_channels, kernel, kernel}), true),
      norm_{Var(Tensor::full({out_channels}, 1.0f), true), Var(Tensor::zeros({out_channels}), true),
            Tensor::zeros({out_channels}), Tensor::full({out_channels}, 1.0f)} {}

Var ConvNormAct::compute(const Var& x, const Var& residual) {
  return norm_act(conv2d(x, weight_, conv_options()), norm_, residual,
                  {.relu = options_.relu, .format = {}, .training = training(), .eps = options_.eps});
}

void ConvNormAct::visit_conv(Visitor& visitor) {
  visitor.parameter("weight", weight_);
  visit_adapter(visitor);
}

void ConvNormAct::visit_norm(Visitor& visitor) {
  visitor.parameter("weight", norm_.gamma);
  visitor.parameter("bias", norm_.beta);
  visitor.buffer("running_mean", norm_.running_mean);
  visitor.buffer("running_var", norm_.running_variance);
}

void ConvNormAct::visit_own(Visitor&) {
  fail(ErrorKind::internal,
       "ConvNormAct: list it with the names of its convolution and of its normalisation");
}

Var Shortcut::compute(const Var& x, const Var& residual) {
  no_residual("shortcut", residual);
  return subsample_and_pad(x, stride_, out_channels_);
}

Var MaxPool::compute(const Var& x, const Var& residual) {
  no_residual("max pooling", residual);
  return max_pool(x, options_);
}

Var GlobalAvgPool::compute(const Var& x, const Var& residual) {
  no_residual("average pooling", residual);
  return global_avg_pool(x);
}

Linear::Linear(int in_features, int out_features)
    : weight_(Tensor::zeros({out_features, in_features}), true), bias_(Tensor::zeros({out_features}), true) {}

Var Linear::compute(const Var& x, const Var& residual) {
  no_residual("linear", residual);
  return linear(x, weight_, bias_);
}

void Linear::visit_own(Visitor& visitor) {
  visitor.parameter("weight", weight_);
  visitor.parameter("bias", bias_);
}

}  // namespace faq
