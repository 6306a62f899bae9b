#include "nn/units.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/pixels.h"
#include "core/parallel.h"
#include "core/rng.h"

namespace faq {
namespace {

const Var& only(const char* unit, Inputs inputs) {
  check(inputs.size() == 1, unit, ": ", inputs.size(), " inputs");
  return inputs[0];
}

// A normalisation that changes nothing before it is trained (but for eps).
NormState neutral_norm(int channels) {
  return {.gamma = Var(Tensor::full({channels}, 1.0f), true),
          .beta = Var(Tensor::zeros({channels}), true),
          .running_mean = Tensor::zeros({channels}),
          .running_variance = Tensor::full({channels}, 1.0f)};
}

void visit_norm_state(Visitor& visitor, NormState& norm) {
  visitor.parameter("weight", norm.gamma);
  visitor.parameter("bias", norm.beta);
  visitor.buffer("running_mean", norm.running_mean);
  visitor.buffer("running_var", norm.running_variance);
}

}  // namespace

Var as_rows(const Var& x) {
  if (x.value().rank() != 4) return x;
  check(x.shape()[1] == 1 && x.shape()[2] == 1, "linear: an image of ", x.shape());
  return reshape(x, {x.shape()[0], x.shape()[3]});
}

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

Var Input::compute(const Pass&, Inputs inputs) {
  return Var(kernels::map_pixels(only("input", inputs).value(), table_));
}

ConvUnit::ConvUnit(const Shape& weight, int out_channels, const ConvGeometry& geometry, bool same_padding,
                   const Activation& activation, float eps)
    : weight_(Tensor::zeros(weight), true),
      norm_(neutral_norm(out_channels)),
      geometry_(geometry),
      same_padding_(same_padding),
      activation_(activation) {
  norm_.eps = eps;
}

Var ConvUnit::compute(const Pass& pass, Inputs inputs) {
  check(inputs.size() == 1 || inputs.size() == 2, "convolution: ", inputs.size(), " inputs");
  LearnedStatistics learned;
  const Var weights = filter();
  Var y = norm_act(conv2d(inputs[0], weights, geometry(inputs[0].shape()), pass.grad_format, packed(weights),
                          pass.float_dtype),
                   norm_, inputs.size() > 1 ? inputs[1] : Var(), norm_options(pass, {}), &learned);
  keep(pass, norm_, std::move(learned));
  return y;
}

// He et al. 2015: N(0, 2/fan_out).
void ConvUnit::initialize(Random& random) {
  const Shape shape = filter().shape();
  const double sigma = std::sqrt(2.0 / static_cast<double>(shape[0] * shape[2] * shape[3]));
  for (float& w : weight_.mutable_value().mutable_span<float>())
    w = static_cast<float>(sigma * random.normal());
}

ConvNormAct::ConvNormAct(int in_channels, int out_channels, Extent kernel, const ConvNormActOptions& options)
    : ConvUnit(
          {out_channels, in_channels / options.groups, kernel.height, kernel.width}, out_channels,
          {.kernel = kernel, .stride = options.stride, .padding = options.padding, .groups = options.groups},
          options.same_padding, options.activation, options.eps) {
  if (options.bias) norm_.conv_bias = Var(Tensor::zeros({out_channels}), true);
}

void ConvNormAct::visit_conv(Visitor& visitor) {
  visitor.parameter("weight", weight_);
  if (norm_.conv_bias) visitor.parameter("bias", norm_.conv_bias);
}

void ConvUnit::visit_batch_norm(Visitor& visitor) { visit_norm_state(visitor, norm_); }

void ConvNormAct::visit_norm(Visitor& visitor) { visit_batch_norm(visitor); }

void ConvNormAct::visit_own(Visitor&) {
  fail(ErrorKind::internal,
       "ConvNormAct: list it with the names of its convolution and of its normalisation");
}

ConvAct::ConvAct(int in_channels, int out_channels, Extent kernel, const ConvActOptions& options)
    : ConvUnit(options.as_matrix ? Shape{out_channels, in_channels * kernel.height * kernel.width}
                                 : Shape{out_channels, in_channels, kernel.height, kernel.width},
               out_channels, {.kernel = kernel, .stride = options.stride, .padding = options.padding}, false,
               options.activation, 0.0f),
      filter_({out_channels, in_channels, kernel.height, kernel.width}),
      bias_(options.bias) {
  norm_.gamma = Var(norm_.gamma.value());
  if (!bias_) norm_.beta = Var(norm_.beta.value());
}

Var ConvAct::filter() { return weight_.shape() == filter_ ? weight_ : reshape(weight_, filter_); }

void ConvAct::visit_own(Visitor& visitor) {
  visitor.parameter("weight", weight_);
  if (bias_) visitor.parameter("bias", norm_.beta);
}

NormAct::NormAct(int channels, float eps) : norm_(neutral_norm(channels)) { norm_.eps = eps; }

Var NormAct::compute(const Pass& pass, Inputs inputs) {
  LearnedStatistics learned;
  Var y = norm_act(only("normalisation", inputs), norm_, {},
                   {.batch_statistics = pass.with_batch_statistics()}, &learned);
  keep(pass, norm_, std::move(learned));
  return y;
}

void NormAct::visit_own(Visitor& visitor) { visit_norm_state(visitor, norm_); }

Var Shortcut::compute(const Pass&, Inputs inputs) {
  return subsample_and_pad(only("shortcut", inputs), stride_, out_channels_);
}

Var MaxPool::compute(const Pass&, Inputs inputs) { return max_pool(only("max pooling", inputs), options_); }

Var AvgPool::compute(const Pass&, Inputs inputs) {
  const Var& x = only("average pooling", inputs);
  const bool each_its_own =
      options_.output > 0 && x.shape()[1] == options_.output && x.shape()[2] == options_.output;
  return each_its_own ? x : avg_pool(x, options_);
}

Var Dropout::compute(const Pass& pass, Inputs inputs) {
  const Var& x = only("dropout", inputs);
  if (!pass.training() || p_ == 0) return x;
  const RandomKeys& keys = pass.keys;
  const std::int64_t images = x.shape()[0];
  check(static_cast<std::int64_t>(keys.samples.size()) == images, "dropout: ", images,
        " images, the pass names ", keys.samples.size(), " samples (Pass::keys)");
  Tensor keep = Tensor::empty(x.shape(), DType::u8);
  const std::int64_t length = keep.numel() / std::max<std::int64_t>(images, 1);
  const auto threshold = static_cast<std::uint32_t>(std::ldexp(p_, 32));
  auto* out = keep.mutable_data<std::uint8_t>();
  parallel_for(images, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      Random random(keys.seed, RandomStream::dropout, layer_ << 24 | static_cast<std::uint64_t>(keys.epoch),
                    static_cast<std::uint64_t>(keys.samples[n]));
      for (std::int64_t i = n * length; i < (n + 1) * length; ++i) out[i] = random.next_u32() >= threshold;
    }
  });
  return dropout(x, keep, p_);
}

Var GlobalAvgPool::compute(const Pass&, Inputs inputs) {
  return global_avg_pool(only("average pooling", inputs));
}

Linear::Linear(int in_features, int out_features, float dropout)
    : weight_(Tensor::zeros({out_features, in_features}), true),
      bias_(Tensor::zeros({out_features}), true),
      dropout_(dropout) {}

Var Linear::compute(const Pass& pass, Inputs inputs) {
  return linear(dropout_(pass, as_rows(only("linear", inputs))), weight_, bias_, pass.grad_format,
                packed_weight(), pass.float_dtype);
}

// PyTorch's default: U(±1/√fan_in).
void Linear::initialize(Random& random) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(weight_.shape()[1]));
  for (Var* parameter : {&weight_, &bias_}) {
    for (float& w : parameter->mutable_value().mutable_span<float>())
      w = static_cast<float>(random.uniform(-bound, bound));
  }
}

void Linear::visit_own(Visitor& visitor) {
  if (dropout_.probability() > 0) visitor.child("dropout", dropout_);
  visitor.parameter("weight", weight_);
  visitor.parameter("bias", bias_);
}

}  // namespace faq
