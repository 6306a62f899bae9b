// What learns in a run: the network with its optimizer, its teacher and its average.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/method.h"
#include "train/model_ema.h"
#include "train/options.h"
#include "train/sgd.h"
#include "train/teacher.h"

namespace faq {

class Learner {
 public:
  /// With nothing learned: begin() or restore() is next. `options` and `method`, which outlive it, are those
  /// of the run. What is wrong with the teacher of a run that does not go on from a checkpoint is said here.
  Learner(const TrainOptions& options, Method& method);

  /// Starts from --weights, or at random. Returns lines for the log. Throws bad_data for weights that are
  /// none of the network.
  std::vector<std::string> begin();
  /// Gives the network the form it has in a phase (see Method), with fresh momentum and a new average.
  /// Returns a line for the log, or nothing.
  std::string begin_phase(int phase, const BatchSource& training_batches);
  /// Goes on from a checkpoint in that phase. Throws bad_data when something is missing or does not fit.
  void restore(const NamedTensors& checkpoint, const std::string& source, int phase);

  /// Where in the run a step is taken.
  struct Step {
    std::int64_t epoch = 0;     ///< of the run
    std::int64_t number = 0;    ///< optimizer steps before it, in the run
    std::int64_t in_phase = 0;  ///< and in the phase
    double phase_done = 0;      ///< how much of the phase is over, 0 to 1
    double lr = 0;
  };
  /// What it saw of the network before it.
  struct Seen {
    double loss_sum = 0;  ///< mean loss of each batch, times its images
    std::int64_t correct = 0;
    std::int64_t images = 0;
  };
  /// One optimizer step over up to --grad-accum-steps batches; the last of an epoch may have fewer. Throws
  /// `diverged`, naming what is not finite.
  Seen step(const Step& step, Loader& batches);

  Model& model() { return *model_; }
  /// Null without --model-ema.
  ModelEma* average() { return ema_ ? &*ema_ : nullptr; }

  /// The network alone: what evaluation and a later run's --weights read.
  void export_network(NamedTensors& to);
  /// With it everything a resumed run needs. Throws `diverged` when something is not finite: what no run
  /// could continue from must not replace what one can.
  void export_state(NamedTensors& to);

 private:
  void begin_teacher();
  void restart();

  const TrainOptions& options_;
  SgdOptions sgd_options_;
  bool distills_;
  Method& method_;
  std::unique_ptr<Model> model_;
  std::optional<Sgd> sgd_;
  std::optional<Teacher> teacher_;
  std::optional<ModelEma> ema_;
};

}  // namespace faq
