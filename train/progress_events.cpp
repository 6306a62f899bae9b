// Shows the events of a run as lines and a bar.
#include <fmt/format.h>

#include "train/options.h"
#include "train/progress_display.h"

namespace faq {

void ProgressDisplay::started(const RunStarted& run) {
  for (const std::string& text : run.machine) line(text);
  if (run.resumed_from.empty())
    line(fmt::format("{}: {} classes, {} training and {} validation images", run.options.model,
                     run.options.num_classes, run.train_images, run.val_images));
  else
    line(fmt::format("resumed from {}: epoch {}, step {}", run.resumed_from.string(), run.epoch, run.step));
  for (const std::string& text : run.data) tell(*this, text);
}

void ProgressDisplay::phase_started(const PhaseStarted& phase) {
  const std::string which =
      phase.count > 1 ? fmt::format("phase {} of {}", phase.index + 1, phase.count) : "";
  if (!phase.text.empty() || !which.empty())
    line(which + (which.empty() || phase.text.empty() ? "" : ": ") + phase.text);
}

void ProgressDisplay::epoch_started(const EpochStarted& /*event*/) { start(); }

void ProgressDisplay::step(const StepDone& done) {
  if (!done.logged && !due()) return;
  update(
      {.title = fmt::format("epoch {}/{} step", done.epoch_index + 1, done.epochs),
       .done = done.step_in_epoch,
       .total = done.steps_per_epoch,
       .seconds_left = done.seconds_left,
       .figures = {fmt::format("loss {:.4f}", done.train_loss), fmt::format("top-1 {:.2f}", done.train_top1),
                   fmt::format("{:.0f} images/s", done.images_per_s), fmt::format("lr {:.2e}", done.lr)}});
}

void ProgressDisplay::evaluating(const Evaluating& now) {
  if (now.batches == 0) return start();
  if (!due(seconds_between_lines)) return;
  const auto rate = [&](std::int64_t done) { return static_cast<double>(done) / now.seconds; };
  update({.title = "evaluating, batch",
          .done = now.batches,
          .total = now.total,
          .seconds_left = static_cast<double>(now.total - now.batches) / rate(now.batches),
          .figures = {now.figures(), fmt::format("{:.0f} images/s", rate(now.images))}});
}

void ProgressDisplay::evaluated() { clear(); }

void ProgressDisplay::epoch(const EpochDone& done) {
  const Evaluation& e = done.validation;
  line(fmt::format(
      "epoch {}: top-1 {:.2f}  top-5 {:.2f}  val loss {:.4f}  ({} images, {:.0f}/s){}", done.epoch, e.top1,
      e.top5, e.loss, e.images, e.images_per_s,
      done.not_averaged ? fmt::format("; not averaged: top-1 {:.2f}", done.not_averaged->top1) : ""));
}

void ProgressDisplay::finished(const RunFinished& /*event*/) { end(); }

void ProgressDisplay::notice(const std::string& text) { line(text); }

void ProgressDisplay::warning(const std::string& text) { line(warning_prefix + text); }

}  // namespace faq
