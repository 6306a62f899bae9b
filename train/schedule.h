// Learning-rate schedules: pure functions of the epoch, so resuming needs no state.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace faq {

enum class Schedule { constant, exponential, step, cosine };

struct ScheduleOptions {
  Schedule schedule = Schedule::constant;
  double lr = 0.1;
  double gamma = 0.1;        ///< exponential: factor per epoch; step: factor per step_size epochs
  double step_size = 30;     ///< epochs
  double warmup_epochs = 0;  ///< linear from lr/100
  double epochs = 1;         ///< length of the run, for cosine
};

double exponential_lr(double base, double factor, double epoch);
double step_lr(double base, double factor, double step_size, double epoch);
/// Falls from base at epoch 0 to 0 at `epochs`. Returns base for a run without epochs.
double cosine_lr(double base, double epochs, double epoch);

/// Returns the rate at `epoch`, which may be fractional. Exponential and step schedules change at whole
/// epochs after the warm-up (torchvision steps its scheduler once per epoch). Cosine and warm-up change at
/// every optimizer step.
double learning_rate(const ScheduleOptions& options, double epoch);

/// A part of a run with its own schedule.
struct Phase {
  int index = 0;
  std::int64_t begin = 0, end = 0;  ///< epochs, counted from 0; end is the first epoch of the next phase

  std::int64_t epochs() const { return end - begin; }
  /// The fraction of the phase that is over at `epoch` of the run, 0 to 1.
  double done(double epoch) const;
};

/// Returns `count` phases with equal shares of the epochs, as nearly as whole epochs allow. Needs at least
/// one epoch per phase. A run without epochs has its last phase only.
std::vector<Phase> split_into_phases(std::int64_t epochs, int count);
/// Returns phases with these numbers of epochs.
std::vector<Phase> phases_of(std::span<const int> epochs);
/// Returns the phase of the epoch with index `epoch` (counted from 0); the last phase when the run is over.
const Phase& phase_at(const std::vector<Phase>& phases, std::int64_t epoch);
/// Returns the rate at `epoch` of the run, where each phase has the schedule of its own.
double learning_rate(const ScheduleOptions& options, const Phase& phase, double epoch);

}  // namespace faq
