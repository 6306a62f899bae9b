#include "train/run.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/json.h"
#include "core/parallel.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/run_record.h"
#include "train/same_on_ranks.h"

namespace faq {
namespace {

bool has_batch_norm(Module& module) {
  bool has = false;
  for_each_unit(module, [&](const std::string&, Unit& unit) { has = has || unit.batch_norm() != nullptr; });
  return has;
}

// The saved options must say what is done.
void check_honoured(const TrainOptions& options, const Method& method) {
  check_options(options);
  check_trainable_here(options);
  check(method.quantizes() == (options.scheme != Scheme::none), ErrorKind::usage, "`scheme` ",
        to_text(options.scheme), ": the method ",
        method.quantizes() ? "quantizes" : "trains in floating point");
  refuse_integer_weights(options);
}

// Completes the options from the machine and the weights. The values from the machine are saved, so a run is
// resumed with the same bits or not at all. A resumed run takes the values from its checkpoint, because the
// weights may be gone.
TrainOptions completed(TrainOptions options, int ranks) {
  options.grad_format = deployed_format(options).grad_format;
  std::optional<CheckpointHeader> checkpoint;
  if (options.resume == "auto")
    checkpoint = furthest_checkpoint(options.output_dir);
  else if (!options.resume.empty())
    checkpoint = {.file = options.resume, .metadata = read_safetensors_metadata(options.resume)};
  if (!checkpoint) {
    adopt_from_weights(options);
    options.shards = shards_of(options, ranks);
    return options;
  }
  const TrainOptions before = options_of_checkpoint(checkpoint->metadata, checkpoint->file.string());
  adopt(options, before);
  adopt_sizes(options, before);  // the defaults of the version that began the run
  // The same step, or at least the same option on another number of ranks.
  check(options.shards > 0 || options.grad_accum_steps == before.grad_accum_steps ||
            shards_of(options, ranks) == before.shards,
        ErrorKind::bad_data, "checkpoint ", checkpoint->file.string(),
        " is of another run: grad-accum-steps was ", before.grad_accum_steps, ", is now ",
        options.grad_accum_steps);
  if (options.shards == 0) options.shards = before.shards;
  return options;
}

// The options of the run, the same on all ranks. What only says where a rank finds things, and how fast it
// works, stays its own.
TrainOptions options_of_run(const TrainOptions& given, const Method& method, Communicator& ranks) {
  check_honoured(given, method);
  check_same_on_ranks(ranks, facts_before_run(given));
  TrainOptions options;
  if (ranks.size() == 1) {
    options = completed(given, 1);
  } else {
    // In binary: the names of files are bytes, which JSON's text has not got room for.
    const std::string of_first = ranks.once([&] {
      const std::vector<std::uint8_t> bytes =
          nlohmann::json::to_cbor(to_json(completed(given, ranks.size())));
      return std::string(bytes.begin(), bytes.end());
    });
    options = recorded_options(nlohmann::json::from_cbor(of_first), "options of rank 0");
    options.data_path = given.data_path;
    options.workers = std::min(given.workers, num_threads());  // other ranks use the other CPUs
    options.threads = given.threads;
  }
  check_agreed(options.shards % ranks.size() == 0, ErrorKind::usage, "`shards` ", options.shards, ": ",
               ranks.size(), " ranks do not divide it");
  return options;
}

std::vector<Phase> phases_of_run(const TrainOptions& options, int count) {
  check(options.epochs == 0 || options.epochs >= count, ErrorKind::usage, "`epochs` ", options.epochs,
        ": fewer than the run's ", count, " phases");
  check(options.phase_epochs.empty() || static_cast<int>(options.phase_epochs.size()) == count,
        ErrorKind::usage, "`phase_epochs`: ", options.phase_epochs.size(), " numbers, the run has ", count,
        " phases");
  return options.phase_epochs.empty() ? split_into_phases(options.epochs, count)
                                      : phases_of(options.phase_epochs);
}

}  // namespace

Run::Run(const TrainOptions& given, Method& method, Communicator& communicator, const OpenSplit& open)
    : ranks(communicator),
      cpus(share_cpus(ranks, given.threads)),
      options(options_of_run(given, method, ranks)),
      schedule(schedule_options(options)),
      phases(phases_of_run(options, method.phases())),
      data(open_data(options, ranks, open)),
      train_loader(*data.train, train_loader_options(options, data, ranks)),
      val_loader(*data.val, val_loader_options(options, data, ranks)),
      learner(options, method, ranks, data.val->class_names()),
      steps_per_epoch(train_loader.steps_per_epoch()) {}

BatchSource Run::training_batches() {
  return [this](int count) -> Batches {
    train_loader.start_epoch(0, 0, Part::all);
    return [this, left = count]() mutable -> std::optional<Tensor> {
      if (left-- == 0) return {};
      auto batch = train_loader.next();
      if (!batch) return {};
      return batch->images;
    };
  };
}

Method::Deployment Run::deployment() const {
  return {.images = preprocessing_of(options, data.val->class_names())};
}

std::vector<std::string> Run::warnings() {
  std::vector<std::string> warnings;
  const std::int64_t batch = options.batch_size, images = data.train->size();
  if (batch < 16 && has_batch_norm(learner.model()))
    warnings.push_back(
        options.shards > 1
            ? fmt::format("shards of {} images: batch-norm takes its statistics from each shard "
                          "alone, and wants 16 or more",
                          batch)
            : fmt::format("batches of {} images: batch-norm wants 16 or more for its statistics", batch));
  if (const std::int64_t rest = images % batch; images > batch && 10 * rest > images)
    warnings.push_back(fmt::format("each epoch leaves out {} of {} images, which are no whole batch of {}",
                                   rest, images, batch));
  for (const Phase& phase : phases)
    if (phase.epochs() > 0 && options.lr_warmup_epochs >= static_cast<double>(phase.epochs()))
      warnings.push_back(fmt::format(
          "a warm-up of {} epochs: the rate does not reach its full value within the {} epochs of phase {}",
          options.lr_warmup_epochs, phase.epochs(), phase.index + 1));
  return warnings;
}

}  // namespace faq
