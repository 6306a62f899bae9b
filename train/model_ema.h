// An exponential moving average of a network in training: what is validated, kept and deployed instead of it
// (torchvision's and timm's --model-ema).
#pragma once

#include <vector>

#include "core/safetensors.h"
#include "nn/module.h"

namespace faq {

/// Averages parameters and running statistics. Quantizers, which are set, are the model's own.
class ModelEma {
 public:
  /// Begins with the values the model has.
  ModelEma(Module& model, double decay);

  /// Takes the model's values in, after `updates` earlier ones: with a share of 1 − min(decay,
  /// (1 + updates)/(10 + updates)), so that short runs do not average over their beginning.
  void update(std::int64_t updates);

  /// While it exists the model has the averages, and the averages are those of the model: what is written to
  /// it (batch-norm's statistics taken anew) is written to them.
  class InPlace {
   public:
    explicit InPlace(ModelEma& ema) : ema_(ema) { ema_.exchange(); }
    ~InPlace() { ema_.exchange(); }
    InPlace(const InPlace&) = delete;
    InPlace& operator=(const InPlace&) = delete;

   private:
    ModelEma& ema_;
  };

  /// "ema/<name>", sharing storage.
  void export_state(NamedTensors& to) const;
  /// Throws bad_data when a tensor is missing or misshapen.
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
