// The events of a run. Progress on stderr, metrics.jsonl and summary.csv are listeners; you can add others.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "train/scores.h"

namespace faq {

struct TrainOptions;

/// Data, folder and checkpoint are ready; nothing is trained yet. A new run gets its weights after this
/// event; a resumed run has been restored already.
struct RunStarted {
  const TrainOptions& options;  ///< options of the run, completed from the weights and the data
  std::filesystem::path folder;
  std::int64_t train_images = 0;
  std::int64_t val_images = 0;
  std::int64_t epoch = 0;              ///< epochs finished before the start
  std::int64_t step = 0;               ///< optimizer steps done before the start
  std::filesystem::path resumed_from;  ///< the checkpoint; empty for a new run
  std::vector<std::string> machine;    ///< lines for people: its ranks and threads, and warnings
  std::vector<std::string> data;       ///< the same: what is done to images, and what was found and not used
};

/// The network now has the form of a phase (see Method).
struct PhaseStarted {
  int index = 0;
  int count = 1;
  std::string text;  ///< what was done, for people; may be empty
};

struct EpochStarted {
  std::int64_t epoch = 0;  ///< epochs finished before this one
};

/// One optimizer step. Loss and accuracy are those of the epoch so far.
struct StepDone {
  std::int64_t step = 0;  ///< number in the run, counting this one
  double epoch = 0;       ///< position in the run, in epochs
  std::int64_t epochs = 0;
  std::int64_t epoch_index = 0;    ///< epochs finished before this one
  std::int64_t step_in_epoch = 0;  ///< number in the epoch, counting this one
  std::int64_t steps_per_epoch = 0;
  double train_loss = 0;
  std::optional<double> train_divergence = {};  ///< the part of the loss that a teacher adds, if there is one
  double train_top1 = 0;                        ///< percent
  double lr = 0;
  double images_per_s = 0;  ///< by this process, in this epoch
  double seconds_left = 0;  ///< of the run
  bool logged = false;      ///< one of every `print_freq` steps; a log of steps keeps these
};

/// The training figures of an epoch.
struct EpochTraining {
  double loss = 0;
  std::optional<double> divergence = {};  ///< the part of the loss that a teacher adds, if there is one
  double top1 = 0;                        ///< percent
  double lr = 0;
  std::optional<double> images_per_s = {};  ///< not set if this process took no step of the epoch
};

/// A layer of the network of a run.
struct LayerValues {
  std::string name;
  Tensor weights;  ///< f32, as the optimizer has them; undefined: it has none
  Tensor output;   ///< of some validation images: integers with a scale, or f32
};

/// An epoch is trained and validated, but not yet saved. The validation before the first step is epoch 0.
struct EpochDone {
  std::int64_t epoch = 0;  ///< epochs finished
  std::int64_t step = 0;
  std::optional<EpochTraining> training = {};  ///< not set for epoch 0
  Evaluation validation = {};
  std::optional<Evaluation> not_averaged = {};  ///< with a moving average: of the network in training
  std::int64_t skipped = 0;                     ///< bad images so far
  std::int64_t faulty = 0;                      ///< images used in spite of a fault of their file, so far
  std::size_t peak_bytes = 0;  ///< that tensors have taken from the system (MemoryStats::reserved)
  /// One object per epoch so far, also the epochs before a resume. The last one is this epoch.
  const nlohmann::json& history;
  /// Takes the network as it was validated through a few validation images and calls a function with each
  /// layer, in order. Only while the event is told; it changes nothing.
  std::function<void(const std::function<void(const LayerValues&)>&)> look = {};
};

struct Saved {
  enum class Kind { last, step, best, integer };  ///< integer: the deployed network of the best epoch
  Kind kind = Kind::last;
  std::filesystem::path file;
  std::int64_t step = 0;
};

/// The progress of an evaluation.
struct Evaluating {
  std::int64_t batches = 0;
  std::int64_t total = 0;
  std::int64_t images = 0;
  double seconds = 0;
  const std::function<std::string()>& figures;  ///< text about the results so far, for people
};

struct TrainResult {
  bool stopped = false;  ///< stopped by a request, after saving; continue with the option resume "auto"
  std::int64_t epochs = 0;
  Evaluation initial;  ///< before the first step; quantized if the run is quantized
  Evaluation last;
  Evaluation best;
  std::int64_t best_epoch = -1;
  double seconds = 0;
  double train_images_per_s = 0;
  std::size_t peak_bytes = 0;  ///< that tensors have taken from the system (MemoryStats::reserved)
  std::int64_t skipped = 0;    ///< bad images; at most `skip_bad` each in training and in validation
  std::int64_t faulty = 0;     ///< images used in spite of a fault of their file
  int ranks = 1;
  double exchange_seconds = 0;  ///< in which gradients were exchanged between ranks
  double wait_seconds = 0;      ///< of them and of other ranks' work, in which this rank had nothing to do
};

struct RunFinished {
  const TrainResult& result;
};

/// Its functions are called in the order of the run, by the thread that runs it. References in an event are
/// valid during the call only. An exception of a listener ends the run.
class RunListener {
 public:
  virtual ~RunListener() = default;

  virtual void started(const RunStarted& /*event*/) {}
  virtual void phase_started(const PhaseStarted& /*event*/) {}
  virtual void epoch_started(const EpochStarted& /*event*/) {}
  virtual void step(const StepDone& /*event*/) {}
  /// Called in every evaluation, inside and outside of runs: once before the first batch, then after every
  /// batch.
  virtual void evaluating(const Evaluating& /*event*/) {}
  /// The evaluation is over and was not stopped.
  virtual void evaluated() {}
  virtual void epoch(const EpochDone& /*event*/) {}
  virtual void saved(const Saved& /*event*/) {}
  /// Called also for a run that was stopped, but not for a run that threw.
  virtual void finished(const RunFinished& /*event*/) {}

  /// A line of text for people.
  virtual void notice(const std::string& /*text*/) {}
  virtual void warning(const std::string& /*text*/) {}
};

/// Passes every event to several listeners, in their order. The listeners must outlive it.
class RunListeners final : public RunListener {
 public:
  explicit RunListeners(std::vector<RunListener*> listeners) : listeners_(std::move(listeners)) {}

  void started(const RunStarted& event) override;
  void phase_started(const PhaseStarted& event) override;
  void epoch_started(const EpochStarted& event) override;
  void step(const StepDone& event) override;
  void evaluating(const Evaluating& event) override;
  void evaluated() override;
  void epoch(const EpochDone& event) override;
  void saved(const Saved& event) override;
  void finished(const RunFinished& event) override;
  void notice(const std::string& text) override;
  void warning(const std::string& text) override;

 private:
  std::vector<RunListener*> listeners_;
};

/// The beginning of a warning in a line of text.
inline constexpr const char* warning_prefix = "warning: ";
/// Passes a line to the listener: as a warning if it begins like one, else as a notice.
void tell(RunListener& listener, const std::string& line);

}  // namespace faq
