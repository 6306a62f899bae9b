// What a run tells of itself as it goes. Progress on stderr, metrics.jsonl and summary.csv are listeners; so
// is whatever else wants to know.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "train/scores.h"

namespace faq {

struct TrainOptions;

/// Data, folder and checkpoint are there, nothing is trained yet. Of a run that begins, its network gets its
/// weights next; one that goes on has been restored.
struct RunStarted {
  const TrainOptions& options;  ///< of the run, with what was left to the weights and the data
  std::filesystem::path folder;
  std::int64_t train_images = 0;
  std::int64_t val_images = 0;
  std::int64_t epoch = 0;              ///< epochs finished before
  std::int64_t step = 0;               ///< optimizer steps done before
  std::filesystem::path resumed_from;  ///< the checkpoint; empty of a run that begins
};

/// The network has got the form that it has in a phase (see Method).
struct PhaseStarted {
  int index = 0;
  int count = 1;
  std::string text;  ///< what was done, for people; may be empty
};

struct EpochStarted {
  std::int64_t epoch = 0;  ///< epochs finished before
};

/// One optimizer step. Sums are those of the epoch so far.
struct StepDone {
  std::int64_t step = 0;  ///< of the run, this one counted
  double epoch = 0;       ///< where in the run it was taken, in epochs
  std::int64_t epochs = 0;
  std::int64_t epoch_index = 0;    ///< epochs finished before
  std::int64_t step_in_epoch = 0;  ///< this one counted
  std::int64_t steps_per_epoch = 0;
  double train_loss = 0;
  double train_top1 = 0;  ///< percent
  double lr = 0;
  double images_per_s = 0;  ///< of this process in this epoch
  double seconds_left = 0;  ///< of the run
  bool logged = false;      ///< one of every `print_freq`: what keeps a log of steps keeps these
};

/// What training told of an epoch.
struct EpochTraining {
  double loss = 0;
  double top1 = 0;  ///< percent
  double lr = 0;
  std::optional<double> images_per_s = {};  ///< nothing if no step of it was taken by this process
};

/// An epoch is over: trained and validated, not yet saved. The validation before the first step is epoch 0.
struct EpochDone {
  std::int64_t epoch = 0;  ///< epochs finished
  std::int64_t step = 0;
  std::optional<EpochTraining> training = {};  ///< nothing of epoch 0
  Evaluation validation = {};
  std::optional<Evaluation> not_averaged = {};  ///< with a moving average: the network in training
  std::int64_t skipped = 0;                     ///< bad images so far
  std::size_t peak_bytes = 0;
  /// One object per epoch so far, those before a resume among them; the last one is of this epoch.
  const nlohmann::json& history;
};

struct Saved {
  enum class Kind { last, step, best };
  Kind kind = Kind::last;
  std::filesystem::path file;
  std::int64_t step = 0;
};

/// How far an evaluation is.
struct Evaluating {
  std::int64_t batches = 0;
  std::int64_t total = 0;
  std::int64_t images = 0;
  double seconds = 0;
  const std::function<std::string()>& figures;  ///< what is known so far, for people
};

struct TrainResult {
  bool stopped = false;  ///< by a request, after saving: run again with the resume option "auto"
  std::int64_t epochs = 0;
  Evaluation initial;  ///< before the first step, quantized if the run is
  Evaluation last;
  Evaluation best;
  std::int64_t best_epoch = -1;
  double seconds = 0;
  double train_images_per_s = 0;
  std::size_t peak_bytes = 0;
  std::int64_t skipped = 0;  ///< bad images, of at most `skip_bad` in training and in validation
};

struct RunFinished {
  const TrainResult& result;
};

/// Called in the order of the run, by the thread that runs it. References in an event are good during the
/// call. What a listener throws ends the run.
class RunListener {
 public:
  virtual ~RunListener() = default;

  virtual void started(const RunStarted& /*event*/) {}
  virtual void phase_started(const PhaseStarted& /*event*/) {}
  virtual void epoch_started(const EpochStarted& /*event*/) {}
  virtual void step(const StepDone& /*event*/) {}
  /// Of any evaluation, in a run or not: once before the first batch, then after every batch.
  virtual void evaluating(const Evaluating& /*event*/) {}
  /// It is over, and was not stopped.
  virtual void evaluated() {}
  virtual void epoch(const EpochDone& /*event*/) {}
  virtual void saved(const Saved& /*event*/) {}
  /// Also of a run that was stopped; not of one that threw.
  virtual void finished(const RunFinished& /*event*/) {}

  /// A line for people.
  virtual void notice(const std::string& /*text*/) {}
  virtual void warning(const std::string& /*text*/) {}
};

/// Hands on to each of several listeners, in their order; they outlive it.
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

/// What a warning begins with where it is a line of text.
inline constexpr const char* warning_prefix = "warning: ";
/// Hands a line on, as a warning if it begins like one.
void tell(RunListener& listener, const std::string& line);

}  // namespace faq
