// All that a forward pass depends on besides its inputs and the network's own tensors.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_set>
#include <utility>
#include <vector>

#include "core/ops.h"

namespace faq {

class Unit;
struct Pass;

/// Keys of random numbers. A value depends only on (seed, purpose, epoch or step, sample). So a dropout mask
/// does not depend on the batch a sample is in.
struct RandomKeys {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::vector<std::int64_t> samples = {};  ///< positions of the batch's images in the data set
};

/// Which parts of a quantized network are computed in integers. Default: all that its quantizers say.
struct PrecisionPlan {
  bool weights = true;
  bool activations = true;                          ///< the outputs of units
  std::unordered_set<const Unit*> exceptions = {};  ///< these units compute in full precision
};

/// What one unit must quantize.
struct UnitPrecision {
  bool weights = true;
  bool activations = true;
};

/// The statistics that the batch-norms of a forward pass normalised with. One entry per batch-norm, in the
/// order they ran.
class BatchStatistics {
 public:
  struct Entry {
    NormState* norm;  ///< of the model, which must live as long
    LearnedStatistics learned;
  };
  void add(NormState& norm, LearnedStatistics learned) { entries_.push_back({&norm, std::move(learned)}); }
  std::span<const Entry> entries() const { return entries_; }

  /// All values as a 1-D tensor that can be added to those of other batches: for each of `norms` the number
  /// of its entries, the sums of their means, and the sums of their unbiased variances.
  Tensor as_sums(std::span<NormState* const> norms) const;
  /// The means of the added tensors, as entries. A norm without entries has none here, either.
  static BatchStatistics from_sums(const Tensor& sums, std::span<NormState* const> norms);

 private:
  std::vector<Entry> entries_;
};

/// For units: adds the statistics of a normalisation to pass.statistics. Does nothing if that is null or the
/// normalisation used its running statistics.
void keep(const Pass& pass, NormState& norm, LearnedStatistics learned);

/// Updates the running statistics of every entry: running ← (1 − momentum)·running + momentum·batch, with the
/// momentum of each norm. `momentum`: replaces that of every norm. No other function changes running
/// statistics in training.
void update_running_statistics(const BatchStatistics& batch, std::optional<float> momentum = {});

/// Is called after every unit has run.
class UnitObserver {
 public:
  virtual ~UnitObserver() = default;
  virtual void saw(Unit& unit, std::span<const Var> inputs, const Var& output) = 0;
};

/// The settings of one forward pass, passed to every unit. A forward changes nothing that outlives it: the
/// statistics it learns go to `statistics`. The default evaluates.
struct Pass {
  enum class Mode { evaluation, training };
  /// The statistics that batch-norms normalise with.
  enum class Normalize { with_running, with_batch };

  Mode mode = Mode::evaluation;
  Normalize normalize = Normalize::with_running;
  RandomKeys keys = {};  ///< training needs `samples` where the network draws random numbers
  PrecisionPlan precision = {};
  /// Of units that compute in floating point, where s8 is bf16; quantized ones have
  /// NumberFormat::grad_format.
  GradFormat grad_format = GradFormat::f32;
  /// What units that compute in floating point multiply, also those of a quantized network: f32, or bf16 on a
  /// CPU that has it. Sums, normalisation and what units hand to each other are f32.
  DType float_dtype = DType::f32;
  BatchStatistics* statistics = nullptr;  ///< filled by norms that use the batch's; null: not wanted
  UnitObserver* observer = nullptr;

  bool training() const { return mode == Mode::training; }
  bool with_batch_statistics() const { return normalize == Normalize::with_batch; }
  UnitPrecision precision_of(const Unit& unit) const {
    if (precision.exceptions.contains(&unit)) return {false, false};
    return {precision.weights, precision.activations};
  }
};

/// Makes the pass of a training step. `statistics` may be null; else they are for
/// update_running_statistics(), without which evaluation normalises as before training.
Pass training_pass(RandomKeys keys = {}, BatchStatistics* statistics = nullptr,
                   GradFormat grad_format = GradFormat::f32, PrecisionPlan precision = {});

}  // namespace faq
