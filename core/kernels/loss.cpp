#include "core/kernels/loss.h"

#include <Eigen/Core>

namespace faq::kernels {

namespace {

Eigen::ArrayXd log_softmax_of(const float* z, std::int64_t classes) {
  const Eigen::ArrayXd row = Eigen::Map<const Eigen::ArrayXf>(z, classes).cast<double>();
  const double max = row.maxCoeff();
  return row - (max + std::log((row - max).exp().sum()));
}

}  // namespace

CrossEntropy cross_entropy(const Tensor& logits, std::span<const std::int32_t> labels,
                           float label_smoothing) {
  check(logits.rank() == 2, "cross-entropy: expected N,K logits, got ", logits.shape());
  const std::int64_t n = logits.dim(0);
  const std::int64_t classes = logits.dim(1);
  check(n > 0 && n == static_cast<std::int64_t>(labels.size()), "cross-entropy: ", n, " logits, ",
        labels.size(), " labels");
  CrossEntropy result{0, {}, Tensor::empty(logits.shape())};
  const float* z = logits.data<float>();
  float* gradient = result.dlogits.mutable_data<float>();
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t label = labels[i];
    check(label >= 0 && label < classes, ErrorKind::bad_data, "cross-entropy: label ", label, " with ",
          classes, " classes");
    const Eigen::ArrayXd log_softmax = log_softmax_of(z + i * classes, classes);
    const double smooth = static_cast<double>(label_smoothing) / static_cast<double>(classes);
    result.losses.push_back(-(1.0 - label_smoothing) * log_softmax[label] - smooth * log_softmax.sum());
    result.loss += result.losses.back();
    Eigen::ArrayXd d = log_softmax.exp() - smooth;
    d[label] -= 1.0 - label_smoothing;
    Eigen::Map<Eigen::ArrayXf>(gradient + i * classes, classes) = (d / static_cast<double>(n)).cast<float>();
  }
  result.loss /= static_cast<double>(n);
  return result;
}

KlDivergence kl_divergence(const Tensor& logits, const Tensor& target) {
  check(logits.rank() == 2 && logits.shape() == target.shape() && logits.dim(0) > 0, "KL divergence: logits ",
        logits.shape(), ", target ", target.shape());
  const std::int64_t n = logits.dim(0), classes = logits.dim(1);
  KlDivergence result{0, Tensor::empty(logits.shape())};
  for (std::int64_t i = 0; i < n; ++i) {
    const Eigen::ArrayXd log_p = log_softmax_of(target.data<float>() + i * classes, classes);
    const Eigen::ArrayXd log_q = log_softmax_of(logits.data<float>() + i * classes, classes);
    result.divergence += (log_p.exp() * (log_p - log_q)).sum();
    Eigen::Map<Eigen::ArrayXf>(result.dlogits.mutable_data<float>() + i * classes, classes) =
        ((log_q.exp() - log_p.exp()) / static_cast<double>(n)).cast<float>();
  }
  result.divergence /= static_cast<double>(n);
  return result;
}

}  // namespace faq::kernels
