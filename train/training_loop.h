// The loop of a training run. Its user takes the steps.
#pragma once

#include <cstdint>
#include <string>

#include "train/agreed_stop.h"
#include "train/checkpoint.h"
#include "train/layer_look.h"
#include "train/method.h"
#include "train/options.h"
#include "train/run.h"
#include "train/run_context.h"
#include "train/run_folder.h"
#include "train/skipped_images.h"

namespace faq {

/// A new or resumed run. Either next() does everything:
///
///   TrainingLoop loop(options, method, context);
///   while (loop.next()) {
///   }
///   const TrainResult result = loop.finish();
///
/// or you call its parts one by one, and do other things between them:
///
///   loop.evaluate_start();
///   while (!loop.done()) {
///     loop.step();
///     if (loop.epoch_trained()) loop.finish_epoch();
///   }
///
/// Both ways give the same bits. All functions throw Error. `diverged` names the last good checkpoint.
/// `stopped` comes from an evaluation during which a stop was requested (next() then saves and returns
/// false).
class TrainingLoop {
 public:
  /// Opens the data and the folder. `method`, the listeners and the communicator must outlive the loop. With
  /// several ranks, all make the same calls, and those that are not the first have no listeners.
  TrainingLoop(const TrainOptions& options, Method& method, const RunContext& context);

  /// Takes one optimizer step and does what is due after it: a checkpoint, or the end of the epoch. The first
  /// call of a new run only evaluates the start. Returns false when the run is over, or stopped with a
  /// checkpoint saved.
  bool next();

  /// Evaluates the network before its first step, as epoch 0 of the history.
  void evaluate_start();
  /// Takes one optimizer step; the first step of an epoch or phase begins it. Throws when the epoch is
  /// trained or the run is done.
  StepDone step();
  /// True if all steps of the epoch are done: call finish_epoch() next.
  bool epoch_trained() const { return progress_.step_in_epoch == run_.steps_per_epoch; }
  /// Evaluates the network (the moving average if there is one), adds the epoch to the history and saves.
  void finish_epoch();
  /// True if all epochs are finished.
  bool done() const { return progress_.epoch >= run_.options.epochs; }
  /// Evaluates the network in training as it is now. Changes nothing.
  Evaluation evaluate();
  /// Saves a checkpoint to resume from: last.safetensors between epochs, else one of this step.
  void save();

  Model& model() { return run_.learner.model(); }
  const TrainOptions& options() const { return run_.options; }
  /// The position of the run.
  const Progress& progress() const { return progress_; }
  bool stopped() const { return stopped_; }
  /// Returns the results so far, and passes them to the listeners.
  TrainResult finish();

 private:
  /// A number of images and the time they took.
  struct Speed {
    std::int64_t images = 0;
    double seconds = 0;
    double rate() const { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }
  };

  RunStarted started() const;
  std::vector<std::string> notes_on_data() const;
  void begin();
  void begin_phase(int phase);
  void restore(const CheckpointFolder::Found& found);
  bool advance();
  void begin_epoch();
  StepDone take_step();
  std::optional<double> mean_divergence(double images) const;
  void close_epoch();
  void write_checkpoint();
  void count_and_write();
  [[noreturn]] void leave_saved(const Error& error);
  std::string lost_results() const;
  Evaluation validate_epoch();
  void record_epoch(EpochDone&& done);
  NamedTensors snapshot();
  void save_best();
  template <class Work>
  auto naming_last_good(Work&& work);

  Method& method_;
  RunContext context_;
  RunListeners listener_;
  Run run_;
  AgreedStop stop_;
  SkippedImages skipped_;
  ImageSample of_train_, of_val_;
  RunRecord record_;
  double began_at_;  ///< seconds of a steady clock, like epoch_began_at_
  RunFolder folder_;
  LayerLook layers_;
  Progress progress_;
  bool start_evaluated_ = false;
  bool in_epoch_ = false;  ///< the loader is inside the epoch in training
  bool stopped_ = false;
  std::int64_t images_before_ = 0;  ///< images of the epoch that an earlier part of the run has trained
  double epoch_began_at_ = 0;
  Speed epoch_;    ///< of this process, in the epoch in training
  Speed trained_;  ///< of this process, in all finished epochs
};

}  // namespace faq
