// Learning-rate schedules: pure functions of the epoch, so that resuming needs no state.
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
/// From base at 0 to 0 at `epochs`; base of a run without epochs.
double cosine_lr(double base, double epochs, double epoch);

/// The rate at `epoch`, which may be fractional: exponential and step schedules change at whole epochs after
/// the warm-up (torchvision steps its scheduler once per epoch), cosine and warm-up at every optimizer step.
double learning_rate(const ScheduleOptions& options, double epoch);

/// A part of a run with a schedule of its own.
struct Phase {
  int index = 0;
  std::int64_t begin = 0, end = 0;  ///< epochs, counted from 0; end is the next phase's first

  std::int64_t epochs() const { return end - begin; }
  /// How much of it is over at `epoch` of the run, 0 to 1.
  double done(double epoch) const;
};

/// Phases with equal shares of the epochs, as nearly as whole epochs allow; the last alone in a run without
/// epochs. Wants at least one epoch for each otherwise.
std::vector<Phase> split_into_phases(std::int64_t epochs, int count);
/// Phases with that many epochs each.
std::vector<Phase> phases_of(std::span<const int> epochs);
/// That of the epoch with this many before it; the last when the run is over.
const Phase& phase_at(const std::vector<Phase>& phases, std::int64_t epoch);
/// The rate at `epoch` of the run, when the schedule is that of each phase.
double learning_rate(const ScheduleOptions& options, const Phase& phase, double epoch);

}  // namespace faq
