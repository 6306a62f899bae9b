#include "train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>
#include <map>
#include <set>

#include "core/allocator.h"
#include "core/atomic_file.h"
#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/parallel.h"
#include "nn/load_weights.h"
#include "train/checkpoint.h"
#include "train/metrics.h"
#include "train/model_ema.h"
#include "train/setup.h"
#include "train/sgd.h"
#include "train/signals.h"
#include "train/teacher.h"

namespace faq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// With what the options leave to the weights; of a run that goes on that is in its checkpoint, and the
// weights may be gone.
TrainOptions completed(TrainOptions options) {
  std::filesystem::path checkpoint = options.resume;
  if (options.resume == "auto") {
    const auto found = checkpoints_in(options.output_dir, [](const std::string&) {});
    checkpoint = found.empty() ? std::filesystem::path() : found.front().file;
  }
  if (checkpoint.empty()) {
    adopt_from_weights(options);
  } else {
    NamedTensors header;
    header.metadata = read_safetensors_metadata(checkpoint);
    const TrainOptions before = options_of_checkpoint(header, checkpoint.string());
    adopt(options, before);
    adopt_sizes(options, before);  // defaults of the version it was begun with
  }
  return options;
}

class Trainer {
 public:
  Trainer(const TrainOptions& options, Method& method, const RunContext& context)
      : options_(completed(options)),
        method_(method),
        display_(context.quiet),
        context_(context),
        resolved_(resolve(options_)),
        phases_(phases_of_run()),
        data_(open()),
        model_(build_model(options_)),
        train_loader_(*data_.train, train_loader_options(options_, data_)),
        val_loader_(*data_.val, val_loader_options(options_, data_)),
        record_(run_record(options_, data_)),
        batches_(train_loader_.batches_per_epoch()),
        steps_per_epoch_((batches_ + options_.grad_accum_steps - 1) / options_.grad_accum_steps) {
    // What is wrong with a teacher is said before there is an output folder.
    if (options_.resume.empty()) begin_teacher();
  }

  // Pretrained or random.
  void load_start() {
    if (!teacher_) begin_teacher();
    if (options_.weights.empty()) {
      initialize(*model_, static_cast<std::uint64_t>(options_.seed));
      display_.line("weights: random");
    } else {
      const auto notes = load_pretrained();
      for (const std::string& note : notes) display_.line(note);
    }
  }

  void begin_teacher() {
    if (resolved_.distill != Distill::none) teacher_ = Teacher::begin(options_);
  }

  void begin_average() {
    if (options_.model_ema > 0) ema_.emplace(*model_, options_.model_ema);
  }

  // Calibration, adapters, fresh momentum, a new average.
  void begin_phase(int phase) {
    const std::string said =
        method_.begin_phase(*model_, phase, [this](int count) { return training_batches(count); });
    const std::string which =
        method_.phases() > 1 ? fmt::format("phase {} of {}", phase + 1, method_.phases()) : "";
    if (!said.empty() || !which.empty())
      display_.line(which + (which.empty() || said.empty() ? "" : ": ") + said);
    sgd_.emplace(parameters(*model_), resolved_.sgd);
    if (teacher_) teacher_->restart();
    begin_average();
    progress_.phase = phase;
    progress_.best_top1 = -1;
    progress_.best_epoch = -1;
  }

  TrainResult run() {
    const auto start = Clock::now();
    open_folder();
    if (const auto checkpoint = find_checkpoint())
      restore(*checkpoint);
    else
      begin();
    metrics_.emplace(folder_->path(), progress_.step);
    reset_peak_memory();
    TrainResult result;
    result.stopped = !train_to_the_end();
    result.epochs = progress_.epoch;
    result.best_epoch = progress_.best_epoch;
    result.initial = recorded(0);
    result.last = recorded(progress_.epoch);
    result.best = recorded(progress_.best_epoch);
    result.seconds = seconds_since(start);
    result.train_images_per_s = trained_.rate();
    result.peak_bytes = memory_stats().peak;
    result.skipped = train_loader_.skipped() + val_loader_.skipped();
    return result;
  }

  nlohmann::json plan() {
    load_start();
    begin_phase(method_.phases() - 1);
    const ModelCost cost = model_cost(
        options_.model, {.num_classes = options_.num_classes, .in_channels = options_.in_channels});
    nlohmann::json phases = nlohmann::json::array();
    for (const Phase& phase : phases_) {
      const double last_step = static_cast<double>(phase.end) - 1.0 / static_cast<double>(steps_per_epoch_);
      phases.push_back(
          {{"begin", phase.begin},
           {"end", phase.end},
           {"network", method_.describe(phase.index)},
           {"lr_first", learning_rate(resolved_.schedule, phase, static_cast<double>(phase.begin))},
           {"lr_last", learning_rate(resolved_.schedule, phase, last_step)}});
    }
    return {{"config", to_json(options_)},
            {"phases", phases},
            {"train_images", data_.train->size()},
            {"val_images", data_.val->size()},
            {"classes", data_.val->class_names().size()},
            {"steps_per_epoch", steps_per_epoch_},
            {"parameters", cost.parameters},
            {"macs", cost.macs},
            {"layers", method_.layers(*model_, deployment())}};
  }

 private:
  std::vector<Phase> phases_of_run() const {
    check(options_.epochs == 0 || options_.epochs >= method_.phases(), ErrorKind::usage, "--epochs ",
          options_.epochs, ": fewer than the run's ", method_.phases(), " phases");
    check(options_.phase_epochs.empty() || static_cast<int>(options_.phase_epochs.size()) == method_.phases(),
          ErrorKind::usage, "--phase-epochs: ", options_.phase_epochs.size(), " numbers, the run has ",
          method_.phases(), " phases");
    return options_.phase_epochs.empty() ? split_into_phases(options_.epochs, method_.phases())
                                         : phases_of(options_.phase_epochs);
  }

  Data open() {
    set_num_threads(options_.threads);
    return open_data(options_, true);
  }

  // Whether the run goes on in the folder its checkpoint is from.
  bool goes_on_here() const {
    if (options_.resume == "auto") return true;
    std::error_code ignored;
    return !options_.resume.empty() &&
           std::filesystem::equivalent(std::filesystem::path(options_.resume).parent_path() / ".",
                                       folder_->path(), ignored);
  }

  void open_folder() {
    folder_.emplace(options_.output_dir, options_.checkpoint_hist);
    check(goes_on_here() || !folder_->holds_checkpoints(), ErrorKind::usage, "output folder ",
          folder_->path(), " holds checkpoints of an earlier run: ",
          options_.resume.empty() ? "continue it with --resume auto, or choose another folder"
                                  : "choose another folder for what comes of " + options_.resume);
  }

  void begin() {
    display_.line(fmt::format("{}: {} classes, {} training and {} validation images", options_.model,
                              options_.num_classes, data_.train->size(), data_.val->size()));
    load_start();
    for (const Phase& phase : phases_)
      if (phase.epochs() > 0 && options_.lr_warmup_epochs >= static_cast<double>(phase.epochs()))
        display_.line(fmt::format(
            "warning: --lr-warmup-epochs {}: the rate does not reach --lr within the {} epochs of phase {}",
            options_.lr_warmup_epochs, phase.epochs(), phase.index + 1));
    begin_phase(phases_.front().index);
    write_config();
  }

  // False when a signal stopped it, after saving.
  bool train_to_the_end() {
    try {
      if (progress_.step == 0) validate_start();
      while (progress_.epoch < options_.epochs) {
        const Phase& phase = phase_at(phases_, progress_.epoch);
        if (phase.index != progress_.phase) begin_phase(phase.index);
        if (!train_epoch(phase)) return false;
        finish_epoch(phase);
        if (stop_requested() && progress_.epoch < options_.epochs) return false;
      }
      return true;
    } catch (const Error& error) {
      if (error.kind() != ErrorKind::stopped) throw;
      // While validating, which changes nothing that is not done again.
      folder_->save_last(snapshot());
      return false;
    }
  }

  void validate_start() {
    progress_.history.clear();  // a run without epochs may be continued, too
    const Evaluation initial = validate();
    report_epoch(0, initial, {});
    if (options_.epochs > 0) return;
    progress_.best_top1 = initial.top1;
    progress_.best_epoch = 0;
    save_best();
    folder_->save_last(snapshot());
  }

  std::vector<std::string> load_pretrained() {
    const auto metadata = read_safetensors_metadata(options_.weights);
    NamedTensors file = read_safetensors(options_.weights);
    if (is_checkpoint(metadata)) {  // the network of an earlier run, without its momentum and quantizers
      const TrainOptions trained = options_of_checkpoint(file, options_.weights);
      if (trained.scheme != "none")
        display_.line(
            fmt::format("warning: {} is quantized (--scheme {}): this run starts from the float weights "
                        "behind its integers, at few bits another network",
                        options_.weights, trained.scheme));
      if (!same_pixels(options_, trained))
        display_.line(fmt::format("warning: {} was trained with other --mean and --std", options_.weights));
      file = weights_in(file);
    }
    initialize(*model_, static_cast<std::uint64_t>(options_.seed));  // for a classifier of another size
    return load_weights(*model_, file, {.source = options_.weights, .reinitialize_classifier = true});
  }

  Batches training_batches(int count) {
    train_loader_.start_epoch(0);
    return [this, left = count]() mutable -> std::optional<Tensor> {
      if (left-- == 0) return {};
      auto batch = train_loader_.next();
      if (!batch) return {};
      return batch->images;
    };
  }

  std::optional<CheckpointFolder::Found> find_checkpoint() {
    if (options_.resume.empty()) return {};
    if (options_.resume == "auto")
      return folder_->newest([this](const std::string& text) { display_.line("warning: " + text); });
    return CheckpointFolder::Found{options_.resume, read_safetensors(options_.resume)};
  }

  void restore(const CheckpointFolder::Found& found) {
    const std::string source = found.file.string();
    check(is_checkpoint(found.contents.metadata), ErrorKind::bad_data, "checkpoint ", source,
          ": not written by faq-train");
    check_same_run(options_, data_, found.contents, source);
    progress_ = progress_in(found.contents.metadata, source);
    check_phase(progress_, method_, source);
    check(progress_.step_in_epoch <= steps_per_epoch_, ErrorKind::bad_data, "checkpoint ", source, ": step ",
          progress_.step_in_epoch, " of an epoch of ", steps_per_epoch_);
    method_.install(*model_, progress_.phase);
    load_weights(*model_, network_in(found.contents), {.source = source});
    sgd_.emplace(parameters(*model_), resolved_.sgd);
    sgd_->import_state(found.contents, source);
    if (resolved_.distill != Distill::none) teacher_ = Teacher::resume(options_, found.contents, source);
    begin_average();
    if (ema_) ema_->import_state(found.contents, source);
    display_.line(fmt::format("resumed from {}: epoch {}, step {}", source, progress_.epoch, progress_.step));
    if (const std::string text = machine_difference(found.contents, source); !text.empty())
      display_.line("warning: " + text);
    if (!goes_on_here()) begin_elsewhere(source);
  }

  // The best network so far is in another folder, and stays there.
  void begin_elsewhere(const std::string& source) {
    check(progress_.epoch < options_.epochs, ErrorKind::usage, "checkpoint ", source,
          " is of a finished run: nothing is left to train in another folder");
    progress_.best_top1 = -1;
    progress_.best_epoch = -1;
    write_config();
  }

  // The validation of an epoch as the history has it; of none: nothing.
  Evaluation recorded(std::int64_t epoch) const {
    for (const auto& row : progress_.history) {
      if (row.at("epoch") != epoch) continue;
      return {.images = row.value("val_images", std::int64_t{0}),
              .top1 = row.at("top1"),
              .top5 = row.at("top5"),
              .loss = row.at("val_loss"),
              .images_per_s = row.value("val_images_per_s", 0.0)};
    }
    return {};
  }

  // The network alone: what evaluation and a later run's --weights read.
  NamedTensors network() {
    NamedTensors contents;
    export_weights(*model_, contents);
    contents.metadata.insert(record_.begin(), record_.end());
    contents.metadata["progress"] = to_json(progress_).dump();
    return contents;
  }

  Method::Deployment deployment() const {
    return {.height = data_.val_crop, .width = data_.val_crop, .channels = options_.in_channels};
  }

  // Everything a resumed run needs. What no run could continue from must not replace what one can.
  NamedTensors snapshot() {
    NamedTensors contents = network();
    sgd_->export_state(contents);
    if (teacher_) teacher_->export_state(contents);
    if (ema_) ema_->export_state(contents);
    for (const auto& [name, tensor] : contents.tensors) {
      diverged_unless(kernels::all_finite(tensor), name.c_str(), std::numeric_limits<double>::quiet_NaN());
    }
    return contents;
  }

  void write_config() const {
    nlohmann::json config = to_json(options_);
    config.erase("resume");
    AtomicFile file(folder_->path() / "config.json");
    file.write(config.dump(2) + "\n");
    file.commit();
    AtomicFile about(folder_->path() / "run.json");
    about.write(nlohmann::json{{"command", context_.command},
                               {"version", FAQ_VERSION},
                               {"isa", isa_name()},
                               {"threads", num_threads()}}
                    .dump(2) +
                "\n");
    about.commit();
  }

  // One optimizer step over up to grad_accum_steps batches.
  void step(double lr) {
    int micro_batches = 0;
    for (; micro_batches < options_.grad_accum_steps; ++micro_batches) {
      const auto batch = train_loader_.next();
      if (!batch) break;  // the last step of an epoch may be of fewer
      const SampleKeys samples{static_cast<std::uint64_t>(options_.seed), progress_.epoch, batch->samples};
      set_samples(*model_, samples);
      TrainingLogits outputs = model_->forward_training(Var(batch->images));
      Var loss = training_loss(outputs, batch->labels, static_cast<float>(options_.label_smoothing));
      if (teacher_) loss = add(loss, teacher_->guidance(outputs.logits, *batch, samples));
      const double value = loss.value().item();
      diverged_unless(std::isfinite(value), "loss", value);
      Scores scores;
      scores.add(outputs.logits.value(), batch->labels);
      outputs = {};
      backward(loss);
      progress_.loss_sum += value * static_cast<double>(batch->size());
      progress_.correct += scores.correct();
      progress_.images += batch->size();
    }
    check(micro_batches > 0, "trainer: an epoch of fewer batches than planned");
    const double norm = sgd_->step(lr, 1.0 / micro_batches);
    diverged_unless(std::isfinite(norm), "gradient norm", norm);
    if (teacher_) {
      const double of_teacher = teacher_->step(lr, 1.0 / micro_batches);
      diverged_unless(std::isfinite(of_teacher), "the teacher's gradient norm", of_teacher);
    }
  }

  void diverged_unless(bool healthy, const char* what, double value) {
    if (healthy) return;
    const auto found = checkpoints_in(folder_->path(), [](const std::string&) {});
    const std::string last_good = found.empty() ? "none" : found.front().file.string();
    fail(ErrorKind::diverged, "training diverged: ", what, " ", value, " at epoch ", progress_.epoch,
         ", step ", progress_.step, "; last good checkpoint: ", last_good);
  }

  // False when a signal stopped it.
  bool train_epoch(const Phase& phase) {
    epoch_ = {};
    if (progress_.step_in_epoch == steps_per_epoch_) return true;  // stopped while it was validated
    set_training(*model_, true);
    train_loader_.start_epoch(progress_.epoch, progress_.step_in_epoch * options_.grad_accum_steps);
    display_.start();
    const auto start = Clock::now();
    const std::int64_t images_before = progress_.images;
    while (progress_.step_in_epoch < steps_per_epoch_) {
      const double epoch =
          static_cast<double>(progress_.epoch) +
          static_cast<double>(progress_.step_in_epoch) / static_cast<double>(steps_per_epoch_);
      const double lr = learning_rate(resolved_.schedule, phase, epoch);
      method_.before_step(*model_, phase.done(epoch), progress_.step);
      step(lr);
      if (ema_) ema_->update(progress_.step - phase.begin * steps_per_epoch_);
      ++progress_.step_in_epoch;
      ++progress_.step;
      epoch_ = {progress_.images - images_before, seconds_since(start)};
      const bool logged = progress_.step % options_.print_freq == 0;
      if (logged || display_.due()) {
        const auto n = static_cast<double>(progress_.images);
        const double rate = epoch_.rate();
        const double top1 = 100.0 * static_cast<double>(progress_.correct) / n;
        display_.update({.title = fmt::format("epoch {}/{} step", progress_.epoch + 1, options_.epochs),
                         .done = progress_.step_in_epoch,
                         .total = steps_per_epoch_,
                         .seconds_left = (static_cast<double>(options_.epochs) - epoch) *
                                         static_cast<double>(data_.train->size()) / rate,
                         .figures = {fmt::format("loss {:.4f}", progress_.loss_sum / n),
                                     fmt::format("top-1 {:.2f}", top1), fmt::format("{:.0f} images/s", rate),
                                     fmt::format("lr {:.2e}", lr)}});
        if (logged)
          metrics_->append({{"step", progress_.step},
                            {"epoch", epoch},
                            {"train_loss", progress_.loss_sum / n},
                            {"train_top1", top1},
                            {"lr", lr},
                            {"images_per_s", rate}});
      }
      const bool epoch_done = progress_.step_in_epoch == steps_per_epoch_;
      if (stop_requested() && !epoch_done) {
        folder_->save_step(snapshot(), progress_.step);
        return false;
      }
      if (options_.checkpoint_interval > 0 && progress_.step % options_.checkpoint_interval == 0 &&
          !epoch_done) {
        folder_->save_step(snapshot(), progress_.step);
      }
    }
    return true;
  }

  Evaluation validate() {
    set_training(*model_, false);
    const NoGrad no_grad;
    Scores scores;
    return evaluate([this](const Tensor& images) { return model_->forward(Var(images)).value(); },
                    val_loader_, scores, display_);
  }

  Evaluation validate_epoch() {
    method_.end_epoch(*model_, [this](int count) { return training_batches(count); });
    return validate();
  }

  void finish_epoch(const Phase& phase) {
    trained_.images += epoch_.images;
    trained_.seconds += epoch_.seconds;
    const auto n = static_cast<double>(std::max<std::int64_t>(progress_.images, 1));
    nlohmann::json row{
        {"train_loss", progress_.loss_sum / n},
        {"train_top1", 100.0 * static_cast<double>(progress_.correct) / n},
        {"lr", learning_rate(resolved_.schedule, phase, static_cast<double>(progress_.epoch))}};
    if (epoch_.images > 0) row["images_per_s"] = epoch_.rate();
    std::optional<ModelEma::InPlace> averaged;
    if (ema_) {
      const Evaluation raw = validate_epoch();
      row["raw_top1"] = raw.top1;
      row["raw_val_loss"] = raw.loss;
      averaged.emplace(*ema_);
    }
    const Evaluation evaluation = validate_epoch();
    diverged_unless(std::isfinite(evaluation.loss), "validation loss", evaluation.loss);
    ++progress_.epoch;
    report_epoch(progress_.epoch, evaluation, std::move(row));
    progress_.step_in_epoch = 0;
    progress_.loss_sum = 0;
    progress_.correct = 0;
    const bool best = evaluation.top1 > progress_.best_top1;
    if (best) {
      progress_.best_top1 = evaluation.top1;
      progress_.best_epoch = progress_.epoch;
    }
    progress_.images = 0;
    const NamedTensors contents = snapshot();  // handles: saved is what they hold then
    if (best) save_best();
    averaged.reset();
    folder_->save_last(contents);
  }

  void save_best() {
    folder_->save_best(network());
    set_training(*model_, false);
    Method::Deployment d = deployment();
    d.folder = folder_->path();
    d.about = {{"model", options_.model},
               {"epoch", std::to_string(progress_.epoch)},
               {"resize", std::to_string(options_.val_resize_size)},
               {"classes", class_list(*data_.val)}};
    method_.deploy(*model_, d);
  }

  void report_epoch(std::int64_t epoch, const Evaluation& evaluation, nlohmann::json row) {
    row["epoch"] = epoch;
    row["val_loss"] = evaluation.loss;
    row["top1"] = evaluation.top1;
    row["top5"] = evaluation.top5;
    row["val_images"] = evaluation.images;
    row["val_images_per_s"] = evaluation.images_per_s;
    row["skipped"] = report_skipped(train_loader_) + report_skipped(val_loader_);
    progress_.history.push_back(row);
    row["step"] = progress_.step;
    row["peak_bytes"] = memory_stats().peak;
    metrics_->append(row);
    metrics_->write_summary(progress_.history);
    display_.line(fmt::format(
        "epoch {}: top-1 {:.2f}  top-5 {:.2f}  val loss {:.4f}  ({} images, {:.0f}/s){}", epoch,
        evaluation.top1, evaluation.top5, evaluation.loss, evaluation.images, evaluation.images_per_s,
        ema_ && epoch > 0 ? fmt::format("; not averaged: top-1 {:.2f}", row["raw_top1"].get<double>()) : ""));
  }

  // Says what was skipped since it was last asked; returns how many images were in all.
  std::int64_t report_skipped(const Loader& loader) {
    for (const std::string& text : loader.skipped_names())
      if (said_skipped_.insert(text).second) display_.line("warning: skipped " + text);
    return loader.skipped();
  }

  struct Speed {
    std::int64_t images = 0;
    double seconds = 0;
    double rate() const { return seconds > 0 ? static_cast<double>(images) / seconds : 0; }
  };

  TrainOptions options_;
  Method& method_;
  ProgressDisplay display_;
  RunContext context_;
  ResolvedOptions resolved_;
  std::vector<Phase> phases_;
  Data data_;
  std::unique_ptr<Model> model_;
  Loader train_loader_;
  Loader val_loader_;
  std::map<std::string, std::string> record_;  // of the run, in every checkpoint
  std::int64_t batches_;
  std::int64_t steps_per_epoch_;
  Speed epoch_;    // of this process in the epoch being trained
  Speed trained_;  // and in all epochs
  std::set<std::string> said_skipped_;
  std::optional<CheckpointFolder> folder_;
  std::optional<Metrics> metrics_;
  std::optional<Sgd> sgd_;
  std::optional<Teacher> teacher_;
  std::optional<ModelEma> ema_;
  Progress progress_;
};

}  // namespace

TrainResult train(const TrainOptions& options, Method& method, const RunContext& context) {
  check(!options.output_dir.empty(), ErrorKind::usage, "--output-dir is required");
  install_stop_handlers();  // a signal while data are listed asks for the same as one during training
  return Trainer(options, method, context).run();
}

nlohmann::json dry_run(const TrainOptions& options, Method& method) {
  check(options.resume.empty(), ErrorKind::usage, "--resume: a plan is that of a whole run");
  return Trainer(options, method, {.command = {}, .quiet = true}).plan();
}

}  // namespace faq
