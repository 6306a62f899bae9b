// The loop of a training run, to be stepped by its user.
#pragma once

#include <cstdint>
#include <set>
#include <string>

#include "train/checkpoint.h"
#include "train/method.h"
#include "train/options.h"
#include "train/run.h"
#include "train/run_context.h"
#include "train/run_folder.h"

namespace faq {

/// A run that was begun, or goes on from its checkpoint. Either next() does it all:
///
///   TrainingLoop loop(options, method, context);
///   while (loop.next()) {
///   }
///   const TrainResult result = loop.finish();
///
/// or its parts are called one by one, and what falls between them is up to the caller:
///
///   loop.evaluate_start();
///   while (!loop.done()) {
///     loop.step();
///     if (loop.epoch_trained()) loop.finish_epoch();
///   }
///
/// Both give the same bits. All of it throws Error; `diverged` names the last good checkpoint, `stopped`
/// comes from evaluations that a stop was requested of (next() saves then, and returns false).
class TrainingLoop {
 public:
  /// Opens the data and the folder. `method` and the listeners outlive it.
  TrainingLoop(const TrainOptions& options, Method& method, const RunContext& context);

  /// One optimizer step and what is due after it: a checkpoint, or the end of the epoch; before the first
  /// one, the evaluation of the start alone. False when the run is over or, with a checkpoint saved, stopped.
  bool next();

  /// Evaluates the network before its first step, as epoch 0 of the history.
  void evaluate_start();
  /// One optimizer step, the first of an epoch or a phase beginning it. Not where the epoch is trained, or
  /// the run done.
  StepDone step();
  /// Whether all steps of the epoch are done: finish_epoch() is next.
  bool epoch_trained() const { return progress_.step_in_epoch == run_.steps_per_epoch; }
  /// Evaluates the network (the moving average, where there is one), records the epoch and saves.
  void finish_epoch();
  /// Whether all epochs are finished.
  bool done() const { return progress_.epoch >= run_.options.epochs; }
  /// Accuracy of the network in training as it is now. Changes nothing.
  Evaluation evaluate();
  /// Saves a checkpoint to go on from: last.safetensors between epochs, else one of this step.
  void save();

  Model& model() { return run_.learner.model(); }
  const TrainOptions& options() const { return run_.options; }
  /// Where the run stands.
  const Progress& progress() const { return progress_; }
  bool stopped() const { return stopped_; }
  /// What came of it so far, which the listeners are told, too.
  TrainResult finish();

 private:
  /// Of some images and the time they took.
  struct Speed {
    std::int64_t images = 0;
    double seconds = 0;
    double rate() const { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }
  };

  RunStarted started() const;
  void begin();
  void begin_phase(int phase);
  void restore(const CheckpointFolder::Found& found);
  bool advance();
  void begin_epoch();
  StepDone take_step();
  void close_epoch();
  void write_checkpoint();
  Evaluation validate_epoch();
  void record_epoch(EpochDone&& done);
  std::int64_t skipped(const Loader& loader);
  NamedTensors snapshot();
  void save_best();
  template <class Work>
  auto naming_last_good(Work&& work);

  Method& method_;
  RunContext context_;
  RunListeners listener_;
  Run run_;
  RunRecord record_;
  double began_at_;  ///< seconds of a steady clock, as below
  RunFolder folder_;
  Progress progress_;
  bool start_evaluated_ = false;
  bool in_epoch_ = false;  ///< the loader is in the epoch that is trained
  bool stopped_ = false;
  std::int64_t images_before_ = 0;  ///< of the epoch, by an earlier part of the run
  double epoch_began_at_ = 0;
  Speed epoch_;    ///< of this process in the epoch being trained
  Speed trained_;  ///< and in all epochs
  std::set<std::string> said_skipped_;
};

}  // namespace faq
