// The part of a run that learns: the network with its optimizer, its teacher and its average.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "train/method.h"
#include "train/model_ema.h"
#include "train/options.h"
#include "train/sgd.h"
#include "train/shard_gradients.h"
#include "train/teacher.h"

namespace faq {

class Learner {
 public:
  /// Makes a learner that has not learned anything: call begin() or restore() next. `options`, `method` and
  /// `ranks` are those of the run and must outlive it. Options have their `shards`. If the run does not
  /// resume from a checkpoint, errors of the teacher are thrown here.
  /// `classes`: the names of the data's classes; empty: not known.
  Learner(const TrainOptions& options, Method& method, Communicator& ranks,
          std::vector<std::string> classes = {});

  /// Starts from --weights, or from random weights. Returns lines for the log. Throws bad_data for weights
  /// that do not fit the network.
  std::vector<std::string> begin();
  /// Gives the network the form it has in a phase (see Method), with fresh momentum and a new average. With
  /// several ranks, the first one calibrates, and all get its network. Returns a line for the log; may be
  /// empty.
  std::string begin_phase(int phase, const BatchSource& training_batches);
  /// Resumes from a checkpoint of that phase. Throws bad_data when something is missing or does not fit.
  void restore(const NamedTensors& checkpoint, const std::string& source, int phase);

  /// The position of an optimizer step in the run.
  struct Step {
    std::int64_t epoch = 0;     ///< epoch of the run
    std::int64_t number = 0;    ///< optimizer steps before it in the run
    std::int64_t in_phase = 0;  ///< optimizer steps before it in the phase
    double phase_done = 0;      ///< fraction of the phase that is over, 0 to 1
    double lr = 0;
    StepShards shards = {};
  };
  /// The results of the network before the step, over all ranks.
  struct Seen {
    double loss_sum = 0;        ///< mean loss of each shard, times its images
    double divergence_sum = 0;  ///< the same of the term that a teacher adds to it
    std::int64_t correct = 0;
    std::int64_t images = 0;
  };
  /// Takes one optimizer step over the shards of all ranks, with the mean gradient of their images. Throws
  /// `diverged` on all ranks, with what is not finite.
  Seen step(const Step& step, Loader& batches);
  /// Lets the method end an epoch (see Method). With several ranks, the first one does it for all.
  void end_epoch(const BatchSource& training_batches);
  /// Seconds that steps have spent between their last backward pass and the sums over all ranks.
  double waited() const { return waited_; }
  /// A checksum of all that export_state saves: equal on all ranks.
  std::uint32_t checksum();

  Model& model() { return *model_; }
  /// Null without --model-ema.
  ModelEma* average() { return ema_ ? &*ema_ : nullptr; }

  /// Exports the network only: what evaluation and --weights of a later run read.
  void export_network(NamedTensors& to);
  /// Exports the network and everything else that a resumed run needs. Throws `diverged` when something is
  /// not finite, because a checkpoint that no run can continue from must not replace a good one.
  void export_state(NamedTensors& to);

 private:
  void begin_teacher();
  void restart();
  void share_network();
  void collect_state(NamedTensors& to);
  std::uint32_t checksum_of_network();
  Seen seen_by_all(const Step& step, const std::vector<Seen>& own) const;

  const TrainOptions& options_;
  SgdOptions sgd_options_;
  GradFormat grad_format_;
  bool distills_;
  Method& method_;
  Communicator& ranks_;
  std::vector<std::string> classes_;
  std::unique_ptr<Model> model_;
  std::optional<Sgd> sgd_;
  std::unique_ptr<ShardGradients> gradients_;
  std::optional<Teacher> teacher_;
  std::optional<ModelEma> ema_;
  double waited_ = 0;
};

}  // namespace faq
