#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace faq {

double exponential_lr(double base, double factor, double epoch) { return base * std::pow(factor, epoch); }

double step_lr(double base, double factor, double step_size, double epoch) {
  return base * std::pow(factor, std::floor(epoch / step_size));
}

double cosine_lr(double base, double epochs, double epoch) {
  if (epochs <= 0) return base;
  return 0.5 * base * (1.0 + std::cos(std::numbers::pi * std::clamp(epoch / epochs, 0.0, 1.0)));
}

double learning_rate(const ScheduleOptions& o, double epoch) {
  if (epoch < o.warmup_epochs) return o.lr * (0.01 + 0.99 * epoch / o.warmup_epochs);
  const double since = epoch - o.warmup_epochs;
  switch (o.schedule) {
    case Schedule::constant:
      return o.lr;
    case Schedule::exponential:
      return exponential_lr(o.lr, o.gamma, std::floor(since));
    case Schedule::step:
      return step_lr(o.lr, o.gamma, o.step_size, std::floor(since));
    case Schedule::cosine:
      return cosine_lr(o.lr, o.epochs - o.warmup_epochs, since);
  }
  return o.lr;
}

double Phase::done(double epoch) const {
  return (epoch - static_cast<double>(begin)) / static_cast<double>(epochs());
}

std::vector<Phase> split_into_phases(std::int64_t epochs, int count) {
  if (epochs == 0) return {{count - 1, 0, 0}};
  std::vector<Phase> phases;
  for (int i = 0; i < count; ++i) phases.push_back({i, epochs * i / count, epochs * (i + 1) / count});
  return phases;
}

std::vector<Phase> phases_of(std::span<const int> epochs) {
  std::vector<Phase> phases;
  std::int64_t begin = 0;
  for (const int count : epochs) {
    phases.push_back({static_cast<int>(phases.size()), begin, begin + count});
    begin += count;
  }
  return phases;
}

const Phase& phase_at(const std::vector<Phase>& phases, std::int64_t epoch) {
  const auto found =
      std::find_if(phases.begin(), phases.end(), [&](const Phase& phase) { return epoch < phase.end; });
  return found == phases.end() ? phases.back() : *found;
}

double learning_rate(const ScheduleOptions& options, const Phase& phase, double epoch) {
  ScheduleOptions own = options;
  own.epochs = static_cast<double>(phase.epochs());
  return learning_rate(own, epoch - static_cast<double>(phase.begin));
}

}  // namespace faq
