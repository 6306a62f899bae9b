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

// Sums over the batches of what gradient_agreement() computes.
struct Sums {
  double cosine = 0, difference = 0, square = 0;

  void add(const double* g, const double* in_f32, std::size_t n) {
    double ab = 0, aa = 0, bb = 0, apart = 0;
    for (std::size_t i = 0; i < n; ++i) {
      ab += g[i] * in_f32[i];
      aa += g[i] * g[i];
      bb += in_f32[i] * in_f32[i];
      apart += (g[i] - in_f32[i]) * (g[i] - in_f32[i]);
    }
    if (aa > 0 && bb > 0) cosine += ab / std::sqrt(aa * bb);
    difference += apart;
    square += bb;
  }
  GradientAgreement over(const std::string& name, int batches) const {
    return {name, cosine / batches, square > 0 ? std::sqrt(difference / square) : 0};
  }
};

}  // namespace

std::vector<GradientAgreement> gradient_agreement(
    Model& model, Model& in_f32, const std::function<std::function<std::optional<Batch>()>()>& batches) {
  const auto all = parameters(model);
  std::vector<Sums> sums(all.size());
  Sums of_all;
  int count = 0;
  for (auto next = batches(); const auto batch = next(); ++count) {
    const std::vector<double> g = gradient_of(model, *batch), exact = gradient_of(in_f32, *batch);
    check(g.size() == exact.size(), "gradient agreement: models of ", g.size(), " and ", exact.size(),
          " parameters");
    of_all.add(g.data(), exact.data(), g.size());
    std::size_t at = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
      const auto n = static_cast<std::size_t>(all[i].value.value().numel());
      sums[i].add(&g[at], &exact[at], n);
      at += n;
    }
  }
  check(count > 0, ErrorKind::bad_data, "gradient agreement: no batches");
  std::vector<GradientAgreement> rows;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (all[i].value.value().rank() >= 2) rows.push_back(sums[i].over(all[i].name, count));
  rows.push_back(of_all.over("all", count));
  return rows;
}

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
