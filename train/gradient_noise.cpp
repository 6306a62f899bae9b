#include "train/gradient_noise.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace faq {
namespace {

// The gradients of all parameters one after the other; a parameter without one counts as zeros.
std::vector<double> gradient_of(Model& model, const Batch& batch) {
  const Pass pass = training_pass({.samples = batch.samples});
  auto all = parameters(model);
  for (auto& parameter : all) parameter.value.clear_grad();
  backward(training_loss(model.forward_training(pass, Var(batch.images)), batch.labels));
  std::vector<double> gradient;
  for (auto& parameter : all) {
    const Tensor& g = parameter.value.grad();
    if (g.defined()) {
      const auto values = g.span<float>();
      gradient.insert(gradient.end(), values.begin(), values.end());
    } else {
      gradient.resize(gradient.size() + static_cast<std::size_t>(parameter.value.value().numel()));
    }
    parameter.value.clear_grad();
  }
  return gradient;
}

double dot(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

}  // namespace

GradientNoise gradient_noise(Model& model,
                             const std::function<std::function<std::optional<Batch>()>()>& batches) {
  GradientNoise result;
  std::vector<double> mean;
  double squares = 0;
  for (auto next = batches(); const auto batch = next();) {
    const std::vector<double> g = gradient_of(model, *batch);
    mean.resize(g.size());
    for (std::size_t i = 0; i < g.size(); ++i) mean[i] += g[i];
    squares += dot(g, g);
    ++result.batches;
  }
  check(result.batches > 0, ErrorKind::bad_data, "gradient noise: no batches");
  for (double& value : mean) value /= result.batches;
  const double norm = dot(mean, mean);
  for (auto next = batches(); const auto batch = next();) {
    const std::vector<double> g = gradient_of(model, *batch);
    const double product = std::sqrt(dot(g, g) * norm);
    if (product > 0) result.cosine += dot(g, mean) / product / result.batches;
  }
  result.mean_norm = std::sqrt(norm);
  result.noise = std::sqrt(std::max(squares / result.batches - norm, 0.0));
  return result;
}

}  // namespace faq
