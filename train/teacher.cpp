#include "train/teacher.h"

#include "core/json.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/class_match.h"
#include "train/option_table.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

constexpr std::string_view prefix = state_prefix::teacher;
constexpr const char* record_name = "teacher";

}  // namespace

Teacher::Teacher(const TrainOptions& options, const TrainOptions& own, Communicator& ranks)
    : joint_(options.distill == Distill::joint),
      ranks_(ranks),
      shards_(shards_of(options, ranks.size())),
      allreduce_(options.allreduce),
      weight_(options.distill_weight),
      label_smoothing_(options.label_smoothing),
      sgd_options_(sgd_options(options)),
      grad_format_(deployed_format(options).grad_format),
      float_dtype_(options.float_dtype),
      record_{{"model", own.model}, {"mean", own.mean}, {"std", own.std}},
      model_(build_model(own)) {
  restart();
}

Teacher Teacher::begin(const TrainOptions& options, Communicator& ranks,
                       const std::vector<std::string>& classes) {
  const std::string& file = options.teacher.empty() ? options.weights : options.teacher;
  TrainOptions own = options;
  if (!options.teacher_model.empty()) own.model = options.teacher_model;
  if (file.empty()) {
    check(options.distill == Distill::joint, ErrorKind::usage,
          "`distill` frozen: neither `teacher` nor `weights` names the teacher");
    Teacher teacher(options, own, ranks);
    initialize(*teacher.model_, static_cast<std::uint64_t>(options.seed));
    return teacher;
  }
  const NamedTensors contents = read_usable_tensors(file);
  if (is_checkpoint(contents.metadata)) {
    check_has_checksums(contents, concat("checkpoint ", file));
    const TrainOptions trained = options_of_checkpoint(contents.metadata, file);
    check(trained.scheme == Scheme::none, ErrorKind::bad_data, "teacher ", file, ": quantized (scheme ",
          to_text(trained.scheme), "), expected a network in full precision");
    if (options.teacher_model.empty()) own.model = trained.model;
    own.mean = trained.mean;
    own.std = trained.std;
  }
  const ModelInfo& info = model_info(own.model);
  const auto check_same = [&](const char* what, int its, int of_network) {
    check(its == 0 || its == of_network, ErrorKind::usage, "teacher ", file, ": has ", its, ' ', what,
          ", the network ", of_network);
  };
  check_same("classes", classes_in(contents, info, options.ignore_extra), options.num_classes);
  check_same("input channel(s)", channels_in(contents, info, options.ignore_extra), options.in_channels);
  Teacher teacher(options, own, ranks);
  NamedTensors network = network_in(contents);
  if (is_checkpoint(contents.metadata)) {
    const ClassMatch match = match_classes(class_names_in(contents.metadata), classes);
    check(match.kind != ClassMatch::others, ErrorKind::usage, "teacher ", file,
          ": its classes have other names than the data's");
    if (match.kind == ClassMatch::permuted) network = with_classes_reordered(network, info, match.order);
  }
  load_weights(*teacher.model_, network, {.source = "teacher " + file, .ignore_extra = options.ignore_extra});
  return teacher;
}

Teacher Teacher::resume(const TrainOptions& options, const NamedTensors& checkpoint,
                        const std::string& source, Communicator& ranks) {
  const std::string context = "checkpoint " + source + ": record of the teacher";
  const auto record = checkpoint.metadata.find(record_name);
  check(record != checkpoint.metadata.end(), ErrorKind::bad_data, "checkpoint ", source,
        ": no record of the teacher");
  TrainOptions own = options;
  try {
    const nlohmann::json json = parse_json(record->second, context);
    json.at("model").get_to(own.model);
    json.at("mean").get_to(own.mean);
    json.at("std").get_to(own.std);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, context, ": ", cause_of(error));
  }
  Teacher teacher(options, own, ranks);
  NamedTensors state;
  for (const auto& [name, tensor] : checkpoint.tensors)
    if (name.starts_with(prefix)) state.add(name.substr(prefix.size()), tensor);
  load_weights(*teacher.model_, network_in(state), {.source = "the teacher in " + source});
  if (teacher.joint_) teacher.sgd_->import_state(state, source);
  return teacher;
}

void Teacher::begin_step(const StepShards& of_step) {
  if (joint_) gradients_->begin(shards_, of_step);
}

Var Teacher::guidance(const Var& logits, const Batch& batch, const RandomKeys& keys, float share) {
  Tensor target;
  if (joint_) {
    BatchStatistics statistics;
    Pass pass = training_pass(keys, &statistics, grad_format_);
    pass.float_dtype = float_dtype_;
    const TrainingLogits outputs = model_->forward_training(pass, Var(batch.images));
    target = outputs.logits.value();
    backward(add(training_loss(outputs, batch.labels, static_cast<float>(label_smoothing_)),
                 scale(kl_divergence(outputs.logits, logits.value()), static_cast<float>(weight_))),
             Tensor::full({1}, share), gradients_->on_leaf());
    gradients_->end_shard(statistics);
  } else {
    const NoGrad no_grad;
    target = model_->forward({.float_dtype = float_dtype_}, Var(batch.images)).value();
  }
  return scale(kl_divergence(logits, target), static_cast<float>(weight_));
}

double Teacher::step(double lr, double grad_scale) { return joint_ ? sgd_->step(lr, grad_scale) : 0.0; }

void Teacher::finish_step() {
  if (joint_) gradients_->finish();
}

void Teacher::restart() {
  if (!joint_) return;
  sgd_.emplace(*model_, sgd_options_);
  gradients_ = std::make_unique<ShardGradients>(*model_, ranks_, allreduce_);
}

void Teacher::export_state(NamedTensors& to) {
  NamedTensors own;
  export_weights(*model_, own);
  if (joint_) sgd_->export_state(own);
  for (const auto& [name, tensor] : own.tensors) to.add(concat(prefix, name), tensor);
  to.metadata[record_name] = record_.dump();
}

}  // namespace faq
