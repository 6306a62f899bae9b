#include "train/tensorboard.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>

#include "train/options.h"

namespace faq {

void TensorBoard::started(const RunStarted& run) {
  file_.reset();
  if (!run.options.tensorboard) return;
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(now).count();
  // TensorBoard reads the files of a folder in the order of their names.
  file_.emplace(run.folder / fmt::format("events.out.tfevents.{:010}.{:07}", seconds, ::getpid()), run.step);
}

void TensorBoard::step(const StepDone& done) {
  if (!file_ || !done.logged) return;
  file_->add(done.step, {{"train_loss", done.train_loss}, {"train_top1", done.train_top1}, {"lr", done.lr}});
  if (done.train_divergence) file_->add(done.step, {{"train_divergence", *done.train_divergence}});
  file_->flush();
}

void TensorBoard::epoch(const EpochDone& done) {
  if (!file_) return;
  file_->add(done.step, {{"epoch", static_cast<double>(done.epoch)},
                         {"eval_loss", done.validation.loss},
                         {"eval_top1", done.validation.top1},
                         {"eval_top5", done.validation.top5}});
  if (done.training && done.training->images_per_s)
    file_->add(done.step, {{"images_per_s", *done.training->images_per_s}});
  if (done.look)
    done.look([&](const LayerValues& layer) {
      if (layer.weights && layer.weights.numel() > 0)
        file_->add(done.step, "weights/" + layer.name, histogram_of(layer.weights));
      if (layer.output && layer.output.numel() > 0)
        file_->add(done.step, "activations/" + layer.name, histogram_of(layer.output));
    });
  file_->flush();
}

}  // namespace faq
