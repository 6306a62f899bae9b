// Distillation: a full-precision network guides the network in training (Zhuang et al., arXiv 1908.04680,
// section 3.5).
#pragma once

#include <nlohmann/json.hpp>

#include "data/loader.h"
#include "nn/models.h"
#include "train/options.h"
#include "train/sgd.h"
#include "train/shard_gradients.h"

namespace faq {

class Teacher {
 public:
  /// For a new run: the network that --teacher names (default: that of --weights). With --distill joint and
  /// neither of them, a random network. Throws usage when it has other classes or channels than the run,
  /// bad_data when it is quantized.
  static Teacher begin(const TrainOptions& options, Communicator& ranks = single_process(),
                       const std::vector<std::string>& classes = {});
  /// For a resumed run: the teacher as export_state saved it. Reads no other file. Throws bad_data when
  /// something is missing or does not fit.
  static Teacher resume(const TrainOptions& options, const NamedTensors& checkpoint,
                        const std::string& source, Communicator& ranks);

  /// Begins a step, see ShardGradients::begin.
  void begin_step(const StepShards& of_step);
  /// The term that is added to the loss of the network in training: weight · KL(teacher's softmax ‖ its
  /// softmax). Joint: also computes the teacher's gradient from its own loss, cross-entropy plus weight · KL
  /// in the other direction.
  /// `share`: a factor of the teacher's own gradient.
  Var guidance(const Var& logits, const Batch& batch, const RandomKeys& keys, float share);

  /// Ends the shards of a step, see ShardGradients::finish.
  void finish_step();
  /// Takes an optimizer step of a joint teacher with the gradients of all shards. A frozen teacher does
  /// nothing. Returns the norm of the gradients, see Sgd::step; 0 for a frozen teacher.
  double step(double lr, double grad_scale);
  /// Resets the momentum.
  void restart();

  /// Adds the tensors under "teacher/", and a description of the network to the metadata.
  void export_state(NamedTensors& to);

 private:
  /// `own`: the run's options, but with the teacher's network, mean and standard deviation.
  Teacher(const TrainOptions& options, const TrainOptions& own, Communicator& ranks);

  bool joint_;
  Communicator& ranks_;
  int shards_;
  Allreduce allreduce_;
  double weight_;
  double label_smoothing_;
  SgdOptions sgd_options_;
  GradFormat grad_format_;
  DType float_dtype_;
  nlohmann::json record_;
  std::unique_ptr<Model> model_;
  std::optional<Sgd> sgd_;
  std::unique_ptr<ShardGradients> gradients_;
};

}  // namespace faq
