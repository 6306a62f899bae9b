// Learning-rate schedules: pure functions of the epoch, so that resuming needs no state.
#pragma once

#include <string>
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
/// From base at 0 to 0 at `epochs`.
double cosine_lr(double base, double epochs, double epoch);

/// The rate at `epoch`, which may be fractional: exponential and step schedules change at whole epochs
/// (torchvision steps its scheduler once per epoch), cosine and warm-up at every optimizer step.
double learning_rate(const ScheduleOptions& options, double epoch);

}  // namespace faq
