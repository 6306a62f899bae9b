// The SGD update, in one pass over each parameter.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

class QuantizationErrors;

struct SgdStep {
  float lr;
  float momentum;
  float weight_decay;
  float grad_scale = 1.0f;  ///< multiplies the gradient first (accumulation, clipping)
};

/// PyTorch's SGD: g ← grad·scale + wd·w;  v ← momentum·v + g;  w ← w − lr·v. `velocity` must start as zeros.
/// All tensors are f32. `errors`, if given, sees the new weights.
void sgd_update(Tensor& weights, Tensor& velocity, const Tensor& grad, const SgdStep& step,
                QuantizationErrors* errors = nullptr);

}  // namespace faq::kernels
