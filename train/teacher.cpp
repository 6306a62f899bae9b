#include "train/teacher.h"

#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/setup.h"

namespace faq {
namespace {

constexpr const char* prefix = "teacher/";

}  // namespace

Teacher::Teacher(const TrainOptions& options)
    : joint_(resolve(options).distill == Distill::joint),
      weight_(options.distill_weight),
      label_smoothing_(options.label_smoothing),
      sgd_options_(resolve(options).sgd) {
  const std::string& file = options.teacher.empty() ? options.weights : options.teacher;
  TrainOptions own = options;
  if (!options.teacher_model.empty()) own.model = options.teacher_model;
  if (file.empty()) {
    check(joint_, ErrorKind::usage, "--distill frozen: neither --teacher nor --weights names the teacher");
    model_ = build_model(own);
    initialize(*model_, static_cast<std::uint64_t>(options.seed));
  } else {
    const NamedTensors contents = read_safetensors(file);
    if (is_checkpoint(contents.metadata)) {
      const TrainOptions trained = options_of_checkpoint(contents, file);
      check(trained.scheme == "none", ErrorKind::bad_data, "teacher ", file, ": quantized (--scheme ",
            trained.scheme, "), expected a network in full precision");
      if (options.teacher_model.empty()) own.model = trained.model;
      own.mean = trained.mean;
      own.std = trained.std;
    }
    const int classes = classes_in(contents, model_info(own.model));
    check(classes == 0 || classes == options.num_classes, ErrorKind::usage, "teacher ", file, ": has ",
          classes, " classes, the network ", options.num_classes);
    model_ = build_model(own);
    load_weights(*model_, network_in(contents), {.source = "teacher " + file});
  }
  set_training(*model_, joint_);
  restart();
}

Var Teacher::guidance(const Var& logits, const Batch& batch, const SampleKeys& samples) {
  Tensor target;
  if (joint_) {
    set_samples(*model_, samples);
    const TrainingLogits outputs = model_->forward_training(Var(batch.images));
    target = outputs.logits.value();
    backward(add(training_loss(outputs, batch.labels, static_cast<float>(label_smoothing_)),
                 scale(kl_divergence(outputs.logits, logits.value()), static_cast<float>(weight_))));
  } else {
    const NoGrad no_grad;
    target = model_->forward(Var(batch.images)).value();
  }
  return scale(kl_divergence(logits, target), static_cast<float>(weight_));
}

double Teacher::step(double lr, double grad_scale) { return joint_ ? sgd_->step(lr, grad_scale) : 0.0; }

void Teacher::restart() {
  if (joint_) sgd_.emplace(parameters(*model_), sgd_options_);
}

void Teacher::export_state(NamedTensors& to) {
  NamedTensors own;
  export_weights(*model_, own);
  if (joint_) sgd_->export_state(own);
  for (const auto& [name, tensor] : own.tensors) to.add(prefix + name, tensor);
}

void Teacher::import_state(const NamedTensors& from) {
  NamedTensors own;
  for (const auto& [name, tensor] : from.tensors)
    if (name.starts_with(prefix)) own.add(name.substr(std::string(prefix).size()), tensor);
  load_weights(*model_, network_in(own), {.source = "the teacher in the checkpoint"});
  if (joint_) sgd_->import_state(own);
}

}  // namespace faq
