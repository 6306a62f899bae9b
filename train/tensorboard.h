// Writes the figures of a run as events for TensorBoard.
#pragma once

#include <filesystem>
#include <optional>

#include "train/event_file.h"
#include "train/run_listener.h"

namespace faq {

/// Writes `events.out.tfevents.TIME.PROCESS` into the folder of a run whose `tensorboard` is set; each part
/// of a resumed run has a file of its own. Steps are optimizer steps. Scalars have the names of timm's
/// summary: every `print_freq` steps train_loss, train_top1, lr and, with a teacher, train_divergence; after
/// every epoch eval_loss, eval_top1, eval_top5 and epoch. After every epoch there are also the histograms of
/// each layer's weights (`weights/LAYER`) and, on a few validation images, of its output
/// (`activations/LAYER`).
class TensorBoard final : public RunListener {
 public:
  void started(const RunStarted& event) override;
  /// step() and epoch() throw io when they cannot write.
  void step(const StepDone& event) override;
  void epoch(const EpochDone& event) override;

 private:
  std::optional<EventFile> file_;
};

}  // namespace faq
