// SGD with momentum over a model's parameters.
#pragma once

#include <vector>

#include "core/safetensors.h"
#include "nn/module.h"

namespace faq {

struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double clip_grad_norm = 0;  ///< 0: no clipping
};

class Sgd {
 public:
  Sgd(std::vector<Named<Var>> parameters, const SgdOptions& options);

  /// One update with the accumulated gradients times `grad_scale`, then clears them. Returns their global
  /// norm (after scaling, before clipping). When it is not finite nothing is changed: the caller reports
  /// divergence.
  double step(double lr, double grad_scale);

  /// Momentum buffers as "momentum/<parameter>", sharing storage.
  void export_state(NamedTensors& to) const;
  /// Throws bad_data when a buffer is missing or misshapen.
  void import_state(const NamedTensors& from, const std::string& source);

 private:
  std::vector<Named<Var>> parameters_;
  std::vector<Tensor> velocity_;
  SgdOptions options_;
};

}  // namespace faq
