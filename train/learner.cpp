#include "train/learner.h"

#include <cmath>

#include "core/kernels/elementwise.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/option_table.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

void check_finite(double value, const char* what) {
  check(std::isfinite(value), ErrorKind::diverged, what, " ", value);
}

// Reads pretrained weights, and adds notes for the user.
NamedTensors read_weights(const TrainOptions& options, std::vector<std::string>& notes) {
  const std::string& source = options.weights;
  NamedTensors file = read_safetensors(source);
  if (!is_checkpoint(file.metadata)) return file;
  const TrainOptions trained = options_of_checkpoint(file.metadata, source);
  if (trained.scheme != Scheme::none)
    notes.push_back(concat("warning: ", source, " is quantized (scheme ", to_text(trained.scheme),
                           "): this run starts from the float weights behind its integers, at few bits "
                           "another network"));
  if (!same_pixels(options, trained))
    notes.push_back(concat("warning: ", source, " was trained with another mean and deviation"));
  return weights_in(file);  // the network of an earlier run, without momentum and quantizers
}

}  // namespace

Learner::Learner(const TrainOptions& options, Method& method)
    : options_(options), method_(method), model_(build_model(options)) {
  sgd_options_ = sgd_options(options);
  distills_ = options.distill != Distill::none;
  if (options.resume.empty()) begin_teacher();
}

void Learner::begin_teacher() {
  if (distills_ && !teacher_) teacher_ = Teacher::begin(options_);
}

std::vector<std::string> Learner::begin() {
  begin_teacher();
  std::vector<std::string> notes;
  initialize(*model_,
             static_cast<std::uint64_t>(options_.seed));  // a classifier of another size stays random
  if (options_.weights.empty()) {
    notes.emplace_back("weights: random");
    return notes;
  }
  const NamedTensors weights = read_weights(options_, notes);
  for (std::string& note :
       load_weights(*model_, weights, {.source = options_.weights, .reinitialize_classifier = true}))
    notes.push_back(std::move(note));
  return notes;
}

void Learner::restart() {
  sgd_.emplace(parameters(*model_), sgd_options_);
  if (options_.model_ema > 0) ema_.emplace(*model_, options_.model_ema);
}

std::string Learner::begin_phase(int phase, const BatchSource& training_batches) {
  std::string said = method_.begin_phase(*model_, phase, training_batches);
  restart();
  if (teacher_) teacher_->restart();
  return said;
}

void Learner::restore(const NamedTensors& checkpoint, const std::string& source, int phase) {
  method_.install(*model_, phase);
  load_weights(*model_, network_in(checkpoint), {.source = source});
  restart();
  sgd_->import_state(checkpoint, source);
  if (distills_) teacher_ = Teacher::resume(options_, checkpoint, source);
  if (ema_) ema_->import_state(checkpoint, source);
}

Learner::Seen Learner::step(const Step& step, Loader& batches) {
  const PrecisionPlan precision = method_.before_step(*model_, step.phase_done, step.number);
  Seen seen;
  int micro_batches = 0;
  for (; micro_batches < options_.grad_accum_steps; ++micro_batches) {
    const auto batch = batches.next();
    if (!batch) break;
    const RandomKeys keys{static_cast<std::uint64_t>(options_.seed), step.epoch, batch->samples};
    BatchStatistics statistics;
    TrainingLogits outputs =
        model_->forward_training(training_pass(keys, &statistics, precision), Var(batch->images));
    update_running_statistics(statistics);
    Var loss = training_loss(outputs, batch->labels, static_cast<float>(options_.label_smoothing));
    if (teacher_) loss = add(loss, teacher_->guidance(outputs.logits, *batch, keys));
    const double value = loss.value().item();
    check_finite(value, "loss");
    Scores scores;
    scores.add(outputs.logits.value(), batch->labels);
    outputs = {};
    backward(loss);
    seen.loss_sum += value * static_cast<double>(batch->size());
    seen.correct += scores.correct();
    seen.images += batch->size();
  }
  check(micro_batches > 0, "learner: an epoch of fewer batches than planned");
  check_finite(sgd_->step(step.lr, 1.0 / micro_batches), "gradient norm");
  if (teacher_) check_finite(teacher_->step(step.lr, 1.0 / micro_batches), "the teacher's gradient norm");
  if (ema_) ema_->update(step.in_phase);
  return seen;
}

void Learner::export_network(NamedTensors& to) { export_weights(*model_, to); }

void Learner::export_state(NamedTensors& to) {
  export_network(to);
  sgd_->export_state(to);
  if (teacher_) teacher_->export_state(to);
  if (ema_) ema_->export_state(to);
  for (const auto& [name, tensor] : to.tensors)
    check(kernels::all_finite(tensor), ErrorKind::diverged, name, " is not finite");
}

}  // namespace faq
