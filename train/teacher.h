// Distillation: a full-precision network that guides the one being trained (Zhuang et al., arXiv 1908.04680,
// section 3.5).
#pragma once

#include <nlohmann/json.hpp>

#include "data/loader.h"
#include "nn/models.h"
#include "train/options.h"
#include "train/sgd.h"

namespace faq {

class Teacher {
 public:
  /// For a run that begins: the network --teacher names (default: that of --weights), or with --distill joint
  /// and neither of them a random one. Throws usage when it has other classes or channels than the run,
  /// bad_data when it is quantized.
  static Teacher begin(const TrainOptions& options);
  /// For a run that goes on: as export_state left it; no other file is read. Throws bad_data when something
  /// is missing or does not fit.
  static Teacher resume(const TrainOptions& options, const NamedTensors& checkpoint,
                        const std::string& source);

  /// What the loss of the network being trained gains: weight · KL(teacher's softmax ‖ its softmax). Joint:
  /// the teacher takes the gradient of its own loss, cross-entropy and weight · KL the other way around.
  Var guidance(const Var& logits, const Batch& batch, const RandomKeys& keys);

  /// A step with the accumulated gradients (joint; frozen: nothing). Returns their norm, see Sgd::step.
  double step(double lr, double grad_scale);
  /// Forgets the momentum.
  void restart();

  /// Tensors under "teacher/", and a record of the network in the metadata.
  void export_state(NamedTensors& to);

 private:
  /// `own`: the run's options but for the teacher's network and what it makes of pixels.
  Teacher(const TrainOptions& options, const TrainOptions& own);

  bool joint_;
  double weight_;
  double label_smoothing_;
  SgdOptions sgd_options_;
  nlohmann::json record_;
  std::unique_ptr<Model> model_;
  std::optional<Sgd> sgd_;
};

}  // namespace faq
