// What a forward pass depends on besides its inputs and the network's own tensors.
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

/// Keys of random numbers. A value depends on (seed, purpose, epoch or step, sample) and on nothing else, so
/// that a mask does not depend on the batch a sample happens to be in.
struct RandomKeys {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::vector<std::int64_t> samples = {};  ///< the positions of the batch's images in the data set
};

/// What of a quantized network is computed in integers. The default is everything that its quantizers say.
struct PrecisionPlan {
  bool weights = true;
  bool activations = true;                          ///< what units hand on
  std::unordered_set<const Unit*> exceptions = {};  ///< these compute in full precision
};

/// What one unit is to quantize.
struct UnitPrecision {
  bool weights = true;
  bool activations = true;
};

/// What the batch-norms of a forward pass normalised with, one entry for each, in the order they ran.
class BatchStatistics {
 public:
  struct Entry {
    NormState* norm;
    LearnedStatistics learned;
  };
  void add(NormState& norm, LearnedStatistics learned) { entries_.push_back({&norm, std::move(learned)}); }
  std::span<const Entry> entries() const { return entries_; }

 private:
  std::vector<Entry> entries_;
};

/// For units: hands what a normalisation learned to whoever asks for it.
void keep(const Pass& pass, NormState& norm, LearnedStatistics learned);

/// running ← (1 − momentum)·running + momentum·batch for every entry, with the momentum of each norm. The
/// one place that changes running statistics. `momentum`: another one for all.
void update_running_statistics(const BatchStatistics& batch, std::optional<float> momentum = {});

/// Sees every unit run.
class UnitObserver {
 public:
  virtual ~UnitObserver() = default;
  virtual void saw(Unit& unit, std::span<const Var> inputs, const Var& output) = 0;
};

/// Passed to every unit. A forward changes nothing that outlives it: what it learned goes to `statistics`.
/// The default evaluates.
struct Pass {
  enum class Mode { evaluation, training };
  /// What batch-norms normalise with.
  enum class Normalize { with_running, with_batch };

  Mode mode = Mode::evaluation;
  Normalize normalize = Normalize::with_running;
  RandomKeys keys = {};  ///< training needs the samples where the network draws random numbers
  PrecisionPlan precision = {};
  BatchStatistics* statistics = nullptr;  ///< filled by norms that use the batch's; null: nobody asks
  UnitObserver* observer = nullptr;

  bool training() const { return mode == Mode::training; }
  bool with_batch_statistics() const { return normalize == Normalize::with_batch; }
  UnitPrecision precision_of(const Unit& unit) const {
    if (precision.exceptions.contains(&unit)) return {false, false};
    return {precision.weights, precision.activations};
  }
};

/// A training step's pass. `statistics` may be null.
Pass training_pass(RandomKeys keys = {}, BatchStatistics* statistics = nullptr, PrecisionPlan precision = {});

}  // namespace faq
