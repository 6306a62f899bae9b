// SGD with momentum over a model's parameters.
#pragma once

#include <memory>
#include <vector>

#include "core/kernels/sgd.h"
#include "core/safetensors.h"
#include "nn/module.h"
#include "quant/adapters.h"

namespace faq {

struct SgdOptions {
  double momentum = 0.9;
  double weight_decay = 1e-4;
  double clip_grad_norm = 0;  ///< 0: no clipping
};

class Sgd {
 public:
  /// Updates the parameters that a model has now: make it after quantize(), which may add learned scales.
  /// Those have no weight decay, and stay positive: a step halves or doubles them at most. The quantizers
  /// that the weights have now are told what an update sees of them (QuantizedUnit::watched_weights).
  Sgd(Module& model, const SgdOptions& options);
  /// Updates parameters of which none is a learned scale.
  Sgd(std::vector<Named<Var>> parameters, const SgdOptions& options);

  /// Makes one update with the accumulated gradients times `grad_scale`, then clears the gradients. Returns
  /// their global norm (after scaling, before clipping). If the norm is not finite, nothing is changed, and
  /// the caller must report divergence.
  double step(double lr, double grad_scale);

  /// Adds the momentum buffers as "momentum/<parameter>"; the tensors share storage.
  void export_state(NamedTensors& to) const;
  /// Copies the momentum buffers from a checkpoint. Throws bad_data when a buffer is missing or misshapen.
  void import_state(const NamedTensors& from, const std::string& source);

 private:
  void update(std::size_t i, const kernels::SgdStep& step);

  std::vector<Named<Var>> parameters_;
  std::vector<bool> is_scale_;
  std::vector<Tensor> velocity_;
  std::vector<std::shared_ptr<QuantizedUnit>> quantizers_;  ///< of weights; null: none
  SgdOptions options_;
};

}  // namespace faq
