// Softmax cross-entropy and KL divergence.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

struct CrossEntropy {
  double loss = 0;             ///< mean over the batch
  std::vector<double> losses;  ///< of each row
  Tensor dlogits;              ///< gradient of the mean, N,K f32
};

/// logits: N,K f32. Label smoothing as in PyTorch: the target is (1 − s)·onehot + s/K.
CrossEntropy cross_entropy(const Tensor& logits, std::span<const std::int32_t> labels, float label_smoothing);

struct KlDivergence {
  double divergence = 0;  ///< mean over the batch
  Tensor dlogits;         ///< gradient of the mean, N,K f32
};

/// KL(softmax(target) ‖ softmax(logits)). Both N,K f32.
KlDivergence kl_divergence(const Tensor& logits, const Tensor& target);

}  // namespace faq::kernels
