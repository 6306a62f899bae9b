// An exponential moving average of a network in training. It is validated, saved and deployed instead of the
// network (--model-ema of torchvision and timm).
#pragma once

#include <vector>

#include "core/safetensors.h"
#include "nn/module.h"

namespace faq {

/// Averages parameters and running statistics. Quantizers are set, not learned, so they stay those of the
/// model.
class ModelEma {
 public:
  /// Starts with the values of the model.
  ModelEma(Module& model, double decay);

  /// Adds the model's values with the share 1 − min(decay, (1 + updates)/(10 + updates)), where `updates` is
  /// the number of earlier calls. So the average of a short run does not keep the beginning of the run.
  void update(std::int64_t updates);

  /// While it exists, the model has the averages, and the average has the model's values. So a write to the
  /// model (batch-norm statistics that are taken again) changes the average.
  class InPlace {
   public:
    explicit InPlace(ModelEma& ema) : ema_(ema) { ema_.exchange(); }
    ~InPlace() { ema_.exchange(); }
    InPlace(const InPlace&) = delete;
    InPlace& operator=(const InPlace&) = delete;

   private:
    ModelEma& ema_;
  };

  /// Adds the averages as "ema/<name>"; the tensors share storage.
  void export_state(NamedTensors& to) const;
  /// Copies the averages from a checkpoint. Throws bad_data when a tensor is missing or misshapen.
  void import_state(const NamedTensors& from, const std::string& source);

 private:
  struct Entry {
    std::string name;
    Tensor value;  ///< the model's own
    Tensor average;
  };
  void exchange();

  std::vector<Entry> entries_;
  double decay_;
};

}  // namespace faq
