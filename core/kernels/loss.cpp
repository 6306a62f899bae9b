#include "core/kernels/loss.h"

#include <Eigen/Core>

namespace faq::kernels {

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
    const Eigen::ArrayXd row = Eigen::Map<const Eigen::ArrayXf>(z + i * classes, classes).cast<double>();
    const double max = row.maxCoeff();
    const double log_sum = max + std::log((row - max).exp().sum());
    const Eigen::ArrayXd log_softmax = row - log_sum;
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

}  // namespace faq::kernels
