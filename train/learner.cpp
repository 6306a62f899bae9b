#include "train/learner.h"

#include <zlib.h>

#include <bit>
#include <chrono>
#include <cmath>

#include "core/kernels/elementwise.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/class_match.h"
#include "train/evaluate.h"
#include "train/option_table.h"
#include "train/run_length.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

// All ranks have the same value.
void check_finite(double value, const char* what) {
  check_agreed(std::isfinite(value), ErrorKind::diverged, what, " ", std::abs(value));  // nan has a sign
}

std::uint32_t checksum_of(const NamedTensors& tensors) {
  uLong sum = ::crc32(0, nullptr, 0);
  for (const auto& [name, tensor] : tensors.tensors)
    sum = ::crc32_z(sum, static_cast<const Bytef*>(tensor.raw()), tensor.bytes());
  return static_cast<std::uint32_t>(sum);
}

// Reads pretrained weights, and adds notes for the user.
NamedTensors read_weights(const TrainOptions& options, const std::vector<std::string>& classes,
                          std::vector<std::string>& notes) {
  const std::string& source = options.weights;
  NamedTensors file = read_usable_tensors(source);
  if (!is_checkpoint(file.metadata)) return file;
  check_has_checksums(file, "checkpoint " + source);
  const TrainOptions trained = options_of_checkpoint(file.metadata, source);
  if (trained.scheme != Scheme::none)
    notes.push_back(concat("warning: ", source, " is quantized (scheme ", to_text(trained.scheme),
                           "): this run starts from the float weights behind its integers, at few bits "
                           "another network"));
  if (!same_pixels(options, trained))
    notes.push_back(concat("warning: ", source, " was trained with another mean and deviation"));
  // The network of an earlier run, without momentum and quantizers.
  return for_classes(weights_in(file), model_info(options.model), classes, source, notes);
}

}  // namespace

Learner::Learner(const TrainOptions& options, Method& method, Communicator& ranks,
                 std::vector<std::string> classes)
    : options_(options),
      grad_format_(deployed_format(options).grad_format),
      method_(method),
      ranks_(ranks),
      classes_(std::move(classes)),
      model_(build_model(options)) {
  sgd_options_ = sgd_options(options);
  distills_ = options.distill != Distill::none;
  if (options.resume.empty()) begin_teacher();
}

void Learner::begin_teacher() {
  if (distills_ && !teacher_) teacher_.emplace(Teacher::begin(options_, ranks_, classes_));
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
  const NamedTensors weights = read_weights(options_, classes_, notes);
  for (std::string& note : load_weights(*model_, weights,
                                        {.source = options_.weights,
                                        .reinitialize_classifier = true,
                                        .ignore_extra = options_.ignore_extra}))
    notes.push_back(std::move(note));
  return notes;
}

void Learner::restart() {
  sgd_.emplace(*model_, sgd_options_);
  gradients_ = std::make_unique<ShardGradients>(*model_, ranks_, options_.allreduce);
  if (options_.model_ema > 0) ema_.emplace(*model_, options_.model_ema);
}

std::string Learner::begin_phase(int phase, const BatchSource& training_batches) {
  std::string said;
  if (ranks_.is_first())
    said = method_.begin_phase(*model_, phase, training_batches);
  else
    method_.install(*model_, phase);
  ranks_.barrier(Patience::endless);  // calibration may take its time
  share_network();
  restart();
  if (teacher_) teacher_->restart();
  return said;
}

void Learner::end_epoch(const BatchSource& training_batches) {
  if (ranks_.size() == 1) return method_.end_epoch(*model_, training_batches);
  bool changed = false;
  if (ranks_.is_first()) {
    const std::uint32_t before = checksum_of_network();
    method_.end_epoch(*model_, training_batches);
    changed = checksum_of_network() != before;
  }
  ranks_.barrier(Patience::endless);
  if (ranks_.any(changed)) share_network();
}

// All ranks get the values of the first one.
void Learner::share_network() {
  if (ranks_.size() == 1) return;
  NamedTensors network;
  export_network(network);
  std::vector<std::future<void>> done;
  for (auto& [name, tensor] : network.tensors) done.push_back(ranks_.start_broadcast(tensor));
  for (auto& broadcast : done) broadcast.get();
}

std::uint32_t Learner::checksum_of_network() {
  NamedTensors network;
  export_network(network);
  return checksum_of(network);
}

std::uint32_t Learner::checksum() {
  NamedTensors state;
  collect_state(state);
  return checksum_of(state);
}

void Learner::restore(const NamedTensors& checkpoint, const std::string& source, int phase) {
  method_.install(*model_, phase);
  load_weights(*model_, network_in(checkpoint), {.source = source});
  restart();
  sgd_->import_state(checkpoint, source);
  if (distills_) teacher_.emplace(Teacher::resume(options_, checkpoint, source, ranks_));
  if (ema_) ema_->import_state(checkpoint, source);
}

Learner::Seen Learner::step(const Step& step, Loader& batches) {
  const PrecisionPlan precision = method_.before_step(*model_, step.phase_done, step.number);
  // In the order in which backward passes end, in which all ranks send.
  if (teacher_) teacher_->begin_step(step.shards);
  gradients_->begin(options_.shards, step.shards);
  std::vector<Seen> own;
  for (int shard = step.shards.begin; shard < step.shards.end; ++shard) {
    const auto batch = batches.next();
    check(batch.has_value(), "learner: an epoch of fewer batches than planned");
    // The mean is over images, so of several shards one with skipped images counts less.
    const float share = options_.shards == 1
                            ? 1.0f
                            : static_cast<float>(batch->size()) / static_cast<float>(step.shards.images);
    const RandomKeys keys{static_cast<std::uint64_t>(options_.seed), step.epoch, batch->samples};
    BatchStatistics statistics;
    Pass pass = training_pass(keys, &statistics, grad_format_, precision);
    pass.float_dtype = options_.float_dtype;
    if (holds_batch_norm_stats(options_, step.phase_done)) pass.normalize = Pass::Normalize::with_running;
    TrainingLogits outputs = model_->forward_training(pass, Var(batch->images));
    Var loss = training_loss(outputs, batch->labels, static_cast<float>(options_.label_smoothing));
    double divergence = 0;
    if (teacher_) {
      const Var guidance = teacher_->guidance(outputs.logits, *batch, keys, share);
      divergence = guidance.value().item();
      loss = add(loss, guidance);
    }
    Scores scores;
    scores.add(outputs.logits.value(), batch->labels);
    outputs = {};
    own.push_back({.loss_sum = loss.value().item() * static_cast<double>(batch->size()),
                   .divergence_sum = divergence * static_cast<double>(batch->size()),
                   .correct = scores.correct(),
                   .images = batch->size()});
    const Tensor seed = Tensor::full(loss.shape(), share);
    backward(std::move(loss), seed, gradients_->on_leaf());
    gradients_->end_shard(statistics);
  }
  const auto begin = std::chrono::steady_clock::now();
  const Seen seen = seen_by_all(step, own);
  check_finite(seen.loss_sum / static_cast<double>(seen.images), "loss");
  gradients_->finish();
  if (teacher_) teacher_->finish_step();
  waited_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  const double mean =
      options_.shards == 1 ? 1.0 : static_cast<double>(step.shards.images) / static_cast<double>(seen.images);
  check_finite(sgd_->step(step.lr, mean), "gradient norm");
  if (teacher_) check_finite(teacher_->step(step.lr, mean), "the teacher's gradient norm");
  if (ema_) ema_->update(step.in_phase);
  return seen;
}

// Each rank fills the rows of its shards in a table of zeros; the sum of the tables has all rows. Losses are
// added in the order of the shards, so all ranks see the same sum on any number of ranks.
Learner::Seen Learner::seen_by_all(const Step& step, const std::vector<Seen>& own) const {
  constexpr std::size_t columns = 4;
  Communicator::Integers table(columns * static_cast<std::size_t>(step.shards.present), 0);
  auto row = table.begin() + static_cast<std::ptrdiff_t>(columns) * step.shards.begin;
  for (const Seen& seen : own) {
    *row++ = std::bit_cast<std::int64_t>(seen.loss_sum);
    *row++ = std::bit_cast<std::int64_t>(seen.divergence_sum);
    *row++ = seen.correct;
    *row++ = seen.images;
  }
  table = ranks_.start_sum(std::move(table)).get();
  Seen all;
  for (std::size_t i = 0; i < table.size(); i += columns) {
    all.loss_sum += std::bit_cast<double>(table[i]);
    all.divergence_sum += std::bit_cast<double>(table[i + 1]);
    all.correct += table[i + 2];
    all.images += table[i + 3];
  }
  return all;
}

void Learner::export_network(NamedTensors& to) { export_weights(*model_, to); }

void Learner::collect_state(NamedTensors& to) {
  export_network(to);
  sgd_->export_state(to);
  if (teacher_) teacher_->export_state(to);
  if (ema_) ema_->export_state(to);
}

void Learner::export_state(NamedTensors& to) {
  collect_state(to);
  for (const auto& [name, tensor] : to.tensors)
    check(kernels::all_finite(tensor), ErrorKind::diverged, name, " is not finite");
}

}  // namespace faq
