#include <cmath>

#include "core/kernels/norm.h"
#include "core/ops.h"

namespace faq {
namespace {

// running ← (1−m)·running + m·batch; PyTorch keeps the unbiased variance.
void update_running(NormState& norm, const kernels::ChannelStatistics& batch, float momentum,
                    std::int64_t values) {
  const auto n = static_cast<float>(values);
  const float unbias = values > 1 ? n / (n - 1.0f) : 1.0f;
  float* mean = norm.running_mean.mutable_data<float>();
  float* variance = norm.running_variance.mutable_data<float>();
  for (std::int64_t c = 0; c < batch.mean.numel(); ++c) {
    mean[c] = (1.0f - momentum) * mean[c] + momentum * batch.mean.data<float>()[c];
    variance[c] = (1.0f - momentum) * variance[c] + momentum * unbias * batch.variance.data<float>()[c];
  }
}

}  // namespace

Var norm_act(const Var& x, NormState& norm, const Var& residual, const NormActOptions& options) {
  const std::int64_t channels = x.shape()[x.value().rank() - 1];
  check(norm.gamma.value().numel() == channels && norm.beta.value().numel() == channels,
        "norm_act: ", channels, " channels, ", norm.gamma.value().numel(), " parameters");
  kernels::ChannelStatistics statistics{norm.running_mean, norm.running_variance};
  if (options.training) {
    const std::int64_t values = x.value().numel() / channels;
    check(values > 1, "norm_act: batch statistics need more than one value per channel, got ", x.shape());
    statistics = kernels::channel_statistics(x.value());
    update_running(norm, statistics, options.momentum, values);
  } else {  // the backward pass must see what the forward pass saw
    statistics = {norm.running_mean.clone(), norm.running_variance.clone()};
  }

  kernels::NormAct params{Tensor::empty({channels}), Tensor::empty({channels}),
                          residual ? residual.value() : Tensor(), options.relu, options.format};
  const Tensor gamma = norm.gamma.value().clone();  // the optimizer writes in place
  for (std::int64_t c = 0; c < channels; ++c) {
    const double scale = gamma.data<float>()[c] /
                         std::sqrt(static_cast<double>(statistics.variance.data<float>()[c]) + options.eps);
    params.scale.mutable_data<float>()[c] = static_cast<float>(scale);
    params.shift.mutable_data<float>()[c] =
        static_cast<float>(norm.beta.value().data<float>()[c] - scale * statistics.mean.data<float>()[c]);
  }
  Tensor y = kernels::norm_act(x.value(), params);

  const bool want_dresidual = residual && residual.requires_grad();
  auto backward = [x = x.value(), params, statistics, gamma, eps = options.eps, batch = options.training,
                   want_dresidual, has_residual = residual.defined()](const Tensor& dy) -> Grads {
    auto g = kernels::norm_act_backward(dy, x, params, statistics, gamma, eps, batch, want_dresidual);
    Grads grads{g.dx, g.dgamma, g.dbeta};
    if (has_residual) grads.push_back(g.dresidual);
    return grads;
  };
  std::vector<Var> inputs{x, norm.gamma, norm.beta};
  if (residual) inputs.push_back(residual);
  return Var::record("norm_act", std::move(y), std::move(inputs), std::move(backward));
}

}  // namespace faq
