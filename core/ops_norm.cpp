#include <algorithm>
#include <cmath>

#include "core/kernels/learned_scale.h"
#include "core/ops_parts.h"

namespace faq {
namespace {

void check_values(const char* what, const Tensor& values, std::int64_t channels) {
  check(values.numel() == channels, "norm_act: ", channels, " channels, ", what, " has ", values.numel(),
        " values");
}

}  // namespace

float unbiasing(const LearnedStatistics& batch) {
  const auto n = static_cast<float>(batch.values);
  return batch.values > 1 ? n / (n - 1.0f) : 1.0f;
}

void update_running(NormState& norm, const LearnedStatistics& batch, float momentum) {
  check_values("the batch", batch.mean, norm.running_mean.numel());
  const float unbias = unbiasing(batch);
  float* mean = norm.running_mean.mutable_data<float>();
  float* variance = norm.running_variance.mutable_data<float>();
  const float* bias = norm.conv_bias ? norm.conv_bias.value().data<float>() : nullptr;
  for (std::int64_t c = 0; c < batch.mean.numel(); ++c) {
    const float batch_mean = batch.mean.data<float>()[c] + (bias ? bias[c] : 0.0f);
    mean[c] = (1.0f - momentum) * mean[c] + momentum * batch_mean;
    variance[c] = (1.0f - momentum) * variance[c] + momentum * unbias * batch.variance.data<float>()[c];
  }
}

Tensor mean_without_bias(const NormState& norm) {
  Tensor mean = norm.running_mean.clone();
  if (!norm.conv_bias) return mean;
  check_values("the convolution's bias", norm.conv_bias.value(), mean.numel());
  float* values = mean.mutable_data<float>();
  const float* bias = norm.conv_bias.value().data<float>();
  for (std::int64_t c = 0; c < mean.numel(); ++c) values[c] -= bias[c];
  return mean;
}

void add_norm_inputs(const NormState& norm, const Var& residual, const NormActOptions& options,
                     std::vector<Var>& inputs) {
  inputs.insert(inputs.end(), {norm.gamma, norm.beta});
  if (norm.conv_bias) inputs.push_back(norm.conv_bias);
  if (residual) inputs.push_back(residual);
  if (options.scale) inputs.push_back(options.scale);
}

// The mean of a batch subtracts the bias again; a running mean does not follow it: db = γ/√(σ²+ε)·Σ dz.
Tensor Normalization::dconv_bias(const Tensor& dbeta) const {
  Tensor gradient = Tensor::zeros(dbeta.shape());
  if (batch_statistics) return gradient;
  const auto out = gradient.mutable_span<float>();
  const auto scale = params.scale.span<float>(), sum = dbeta.span<float>();
  for (std::size_t c = 0; c < out.size(); ++c) out[c] = scale[c] * sum[c];
  return gradient;
}

Grads Normalization::grads(const kernels::NormActBackward& pass, const Tensor& dresidual) const {
  Grads grads{pass.dgamma(), pass.dbeta()};
  if (has_conv_bias) grads.push_back(dconv_bias(pass.dbeta()));
  if (params.residual) grads.push_back(dresidual);
  if (learns_scale) {
    const std::int64_t per_image = x.numel() / std::max<std::int64_t>(x.dim(0), 1);
    grads.push_back(Tensor::full(
        {1}, kernels::scale_gradient_factor(per_image, *params.format) * static_cast<float>(pass.dscale())));
  }
  return grads;
}

kernels::NormActBackward Normalization::backward(const Tensor& dy, const Tensor& factors,
                                                 bool with_rounding) const {
  return {dy,
          x,
          params,
          statistics,
          gamma,
          eps,
          {.batch_statistics = batch_statistics,
           .with_dscale = learns_scale,
           .with_rounding = with_rounding,
           .factors = factors}};
}

Normalization prepare_norm_act(const Tensor& x, const NormState& norm, const Var& residual,
                               const NormActOptions& options, std::optional<kernels::ChannelStatistics> batch,
                               const Tensor& x_scales) {
  const std::int64_t channels = x.dim(x.rank() - 1);
  check_values("gamma", norm.gamma.value(), channels);
  check_values("beta", norm.beta.value(), channels);
  check_values("the running mean", norm.running_mean, channels);
  check_values("the running variance", norm.running_variance, channels);
  if (norm.conv_bias) check_values("the convolution's bias", norm.conv_bias.value(), channels);
  check(!options.scale || (options.format && options.scale.value().numel() == 1), "norm_act: a scale of ",
        options.scale ? options.scale.value().numel() : 0, " elements to learn, ",
        options.format ? "and" : "without", " a format");
  Normalization n{
      .x = x,
      .params = {Tensor::empty({channels}), Tensor::empty({channels}), residual ? residual.value() : Tensor(),
                 options.activation, options.format, x_scales},
      .statistics = {},
      .gamma = norm.gamma.value().clone(),  // a copy: the optimizer writes in place
      .eps = norm.eps,
      .batch_statistics = options.batch_statistics,
      .has_conv_bias = norm.conv_bias.defined(),
      .learns_scale = options.scale.defined()};
  if (options.batch_statistics) {
    const std::int64_t values = x.numel() / channels;
    check(values > 1, ErrorKind::usage,
          "norm_act: batch statistics need more than one value per channel, got ", x.shape(),
          ": larger batches or larger images");
    n.statistics = batch ? *batch : kernels::channel_statistics(x);
  } else {  // the backward pass must see what the forward pass saw
    n.statistics = {mean_without_bias(norm), norm.running_variance.clone()};
  }
  const auto gamma = n.gamma.span<float>(), beta = norm.beta.value().span<float>();
  const auto mean = n.statistics.mean.span<float>(), variance = n.statistics.variance.span<float>();
  const auto scales = n.params.scale.mutable_span<float>(), shifts = n.params.shift.mutable_span<float>();
  for (std::int64_t c = 0; c < channels; ++c) {
    const double scale = gamma[c] / std::sqrt(static_cast<double>(variance[c]) + norm.eps);
    scales[c] = static_cast<float>(scale);
    shifts[c] = static_cast<float>(beta[c] - scale * mean[c]);
  }
  return n;
}

void tell(const Normalization& n, LearnedStatistics* learned) {
  if (!learned || !n.batch_statistics) return;
  *learned = {n.statistics.mean, n.statistics.variance, n.x.numel() / n.statistics.mean.numel()};
}

Var norm_act(const Var& x, const NormState& norm, const Var& residual, const NormActOptions& options,
             LearnedStatistics* learned) {
  const Normalization n = prepare_norm_act(x.value(), norm, residual, options);
  tell(n, learned);
  Tensor y = kernels::norm_act(n.x, n.params);
  auto backward = [n, want_dresidual = residual && residual.requires_grad()](const Tensor& dy,
                                                                             const Grads& sums) {
    const kernels::NormActBackward pass = n.backward(dy);
    const bool adds = sums[0] && sums[0].dtype() == dy.dtype();
    Tensor dx = adds ? sums[0] : Tensor::empty(dy.shape(), dy.dtype());
    Tensor dresidual = want_dresidual ? Tensor::empty(dy.shape(), dy.dtype()) : Tensor();
    pass.apply(0, dy.dim(0), dx, dresidual, adds);
    Grads grads = n.grads(pass, dresidual);
    grads.insert(grads.begin(), dx);
    return grads;
  };
  std::vector<Var> inputs{x};
  add_norm_inputs(norm, residual, options, inputs);
  return Var::record_adding("norm_act", std::move(y), std::move(inputs), std::move(backward));
}

}  // namespace faq
