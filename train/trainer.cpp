#include "train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <filesystem>
#include <limits>

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

class Trainer {
 public:
  Trainer(const TrainOptions& options, Method& method, const RunContext& context)
      : options_(options),
        method_(method),
        display_(context.quiet),
        context_(context),
        resolved_(resolve(options_)),
        data_((set_num_threads(options_.threads), open_data(options_, true))),
        model_(build_model(options_)),
        train_loader_(*data_.train, train_loader_options(options_, data_)),
        val_loader_(*data_.val, val_loader_options(options_, data_)) {
    check(options_.resume.empty() || !options_.output_dir.empty(), ErrorKind::usage,
          "--resume wants an --output-dir");
    check(options_.epochs == 0 || options_.epochs >= method_.phases(), ErrorKind::usage, "--epochs ",
          options_.epochs, ": fewer than the run's ", method_.phases(), " phases");
    check(options_.phase_epochs.empty() || static_cast<int>(options_.phase_epochs.size()) == method_.phases(),
          ErrorKind::usage, "--phase-epochs: ", options_.phase_epochs.size(), " numbers, the run has ",
          method_.phases(), " phases");
    phases_ = options_.phase_epochs.empty() ? split_into_phases(options_.epochs, method_.phases())
                                            : phases_of(options_.phase_epochs);
    if (options_.resume.empty()) begin_teacher();
    batches_ = train_loader_.batches_per_epoch();
    steps_per_epoch_ = (batches_ + options_.grad_accum_steps - 1) / options_.grad_accum_steps;
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
    TrainResult result;
    const auto start = Clock::now();
    install_stop_handlers();
    folder_.emplace(options_.output_dir, options_.checkpoint_hist);
    auto checkpoint = find_checkpoint();
    if (checkpoint) {
      restore(*checkpoint);
    } else {
      load_start();
      begin_phase(phases_.front().index);
      write_config();
    }
    metrics_.emplace(folder_->path(), progress_.step);
    reset_peak_memory();
    if (progress_.step == 0) {
      progress_.history.clear();  // a run without epochs may be continued, too
      result.initial = validate();
      report_epoch(0, result.initial, {});
      if (options_.epochs == 0) {
        progress_.best_top1 = result.initial.top1;
        progress_.best_epoch = 0;
        result.last = result.best = result.initial;
        save_best();
        folder_->save_last(snapshot());
      }
    }
    double training_seconds = 0;
    std::int64_t trained_images = 0;
    while (progress_.epoch < options_.epochs) {
      const Phase& phase = phase_at(phases_, progress_.epoch);
      if (phase.index != progress_.phase) begin_phase(phase.index);
      const auto epoch_start = Clock::now();
      const std::int64_t images_before = progress_.images;
      const bool finished = train_epoch(phase);
      training_seconds += seconds_since(epoch_start);
      trained_images += progress_.images - images_before;
      if (!finished) {
        result.stopped = true;
        break;
      }
      result.last =
          finish_epoch(static_cast<double>(progress_.images - images_before) / seconds_since(epoch_start));
      if (progress_.best_epoch == progress_.epoch) result.best = result.last;
      if (stop_requested() && progress_.epoch < options_.epochs) {
        result.stopped = true;
        break;
      }
    }
    result.epochs = progress_.epoch;
    result.best_epoch = progress_.best_epoch;
    // What this process did not do itself is in the history.
    if (result.best_epoch != progress_.epoch || result.best.images == 0)
      result.best = recorded(result.best_epoch);
    if (result.last.images == 0) result.last = recorded(progress_.epoch);
    if (result.initial.images == 0) result.initial = recorded(0);
    result.seconds = seconds_since(start);
    result.train_images_per_s =
        training_seconds > 0 ? static_cast<double>(trained_images) / training_seconds : 0;
    result.peak_bytes = memory_stats().peak;
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
    const auto warn = [this](const std::string& text) { display_.line("warning: " + text); };
    if (options_.resume.empty()) {
      check(!folder_->newest([](const std::string&) {}), ErrorKind::usage, "output folder ", folder_->path(),
            " holds checkpoints of an earlier run: continue it with --resume auto, or choose another folder");
      return {};
    }
    if (options_.resume == "auto") return folder_->newest(warn);
    return CheckpointFolder::Found{options_.resume, read_safetensors(options_.resume)};
  }

  void restore(const CheckpointFolder::Found& found) {
    const std::string source = found.file.string();
    check(is_checkpoint(found.contents.metadata), ErrorKind::bad_data, "checkpoint ", source,
          ": not written by faq-train");
    check_same_run(options_, found.contents, source);
    progress_ = progress_in(found.contents.metadata, source);
    check_phase(progress_, method_, source);
    method_.install(*model_, progress_.phase);
    load_weights(*model_, network_in(found.contents), {.source = source});
    sgd_.emplace(parameters(*model_), resolved_.sgd);
    sgd_->import_state(found.contents, source);
    if (resolved_.distill != Distill::none) teacher_ = Teacher::resume(options_, found.contents, source);
    begin_average();
    if (ema_) ema_->import_state(found.contents, source);
    display_.line(fmt::format("resumed from {}: epoch {}, step {}", source, progress_.epoch, progress_.step));
  }

  // The validation of an epoch as the history has it.
  Evaluation recorded(std::int64_t epoch) const {
    for (const auto& row : progress_.history) {
      if (row.at("epoch") != epoch) continue;
      return {.images = data_.val->size(),
              .top1 = row.at("top1"),
              .top5 = row.at("top5"),
              .loss = row.at("val_loss"),
              .images_per_s = 0};
    }
    return {};
  }

  // The network alone: what evaluation and a later run's --weights read.
  NamedTensors network() {
    NamedTensors contents;
    export_weights(*model_, contents);
    contents.metadata["config"] = to_json(options_).dump();
    contents.metadata["progress"] = to_json(progress_).dump();
    contents.metadata["version"] = FAQ_VERSION;
    contents.metadata["classes"] = class_list();
    return contents;
  }

  Method::Deployment deployment() const {
    return {.height = data_.val_crop, .width = data_.val_crop, .channels = options_.in_channels};
  }

  // Names of folders may be no UTF-8.
  std::string class_list() const {
    return nlohmann::json(data_.val->class_names())
        .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
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

  // One optimizer step over up to grad_accum_steps batches; false when the epoch's batches are used up.
  bool step(double lr) {
    int micro_batches = 0;
    for (; micro_batches < options_.grad_accum_steps; ++micro_batches) {
      const auto batch = train_loader_.next();
      if (!batch) break;
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
      progress_.correct += std::llround(scores.result().top1 / 100.0 * static_cast<double>(batch->size()));
      progress_.images += batch->size();
    }
    if (micro_batches == 0) return false;
    const double norm = sgd_->step(lr, 1.0 / micro_batches);
    diverged_unless(std::isfinite(norm), "gradient norm", norm);
    if (teacher_) {
      const double of_teacher = teacher_->step(lr, 1.0 / micro_batches);
      diverged_unless(std::isfinite(of_teacher), "the teacher's gradient norm", of_teacher);
    }
    return true;
  }

  void diverged_unless(bool healthy, const char* what, double value) {
    if (healthy) return;
    std::string last_good = "none";
    const auto found = folder_->newest([](const std::string&) {});
    if (found) last_good = found->file.string();
    fail(ErrorKind::diverged, "training diverged: ", what, " ", value, " at epoch ", progress_.epoch,
         ", step ", progress_.step, "; last good checkpoint: ", last_good);
  }

  // False when a signal stopped it.
  bool train_epoch(const Phase& phase) {
    set_training(*model_, true);
    train_loader_.start_epoch(progress_.epoch, progress_.step_in_epoch * options_.grad_accum_steps);
    const auto start = Clock::now();
    const std::int64_t images_before = progress_.images;
    while (progress_.step_in_epoch < steps_per_epoch_) {
      const double epoch =
          static_cast<double>(progress_.epoch) +
          static_cast<double>(progress_.step_in_epoch) / static_cast<double>(steps_per_epoch_);
      const double lr = learning_rate(resolved_.schedule, phase, epoch);
      method_.before_step(*model_, phase.done(epoch), progress_.step);
      if (!step(lr)) break;
      if (ema_) ema_->update(progress_.step - phase.begin * steps_per_epoch_);
      ++progress_.step_in_epoch;
      ++progress_.step;
      const bool logged = progress_.step % options_.print_freq == 0;
      if (logged || display_.due()) {
        const auto n = static_cast<double>(progress_.images);
        const double rate = static_cast<double>(progress_.images - images_before) / seconds_since(start);
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

  Evaluation finish_epoch(double images_per_s) {
    const auto n = static_cast<double>(std::max<std::int64_t>(progress_.images, 1));
    nlohmann::json row{{"train_loss", progress_.loss_sum / n},
                       {"train_top1", 100.0 * static_cast<double>(progress_.correct) / n},
                       {"lr", learning_rate(resolved_.schedule, phase_at(phases_, progress_.epoch),
                                            static_cast<double>(progress_.epoch))},
                       {"images_per_s", images_per_s}};
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
    return evaluation;
  }

  void save_best() {
    folder_->save_best(network());
    set_training(*model_, false);
    Method::Deployment d = deployment();
    d.folder = folder_->path();
    d.about = {{"model", options_.model},
               {"epoch", std::to_string(progress_.epoch)},
               {"resize", std::to_string(options_.val_resize_size)},
               {"classes", class_list()}};
    method_.deploy(*model_, d);
  }

  void report_epoch(std::int64_t epoch, const Evaluation& evaluation, nlohmann::json row) {
    row["epoch"] = epoch;
    row["val_loss"] = evaluation.loss;
    row["top1"] = evaluation.top1;
    row["top5"] = evaluation.top5;
    progress_.history.push_back(row);
    row["step"] = progress_.step;
    row["val_images_per_s"] = evaluation.images_per_s;
    row["peak_bytes"] = memory_stats().peak;
    metrics_->append(row);
    metrics_->write_summary(progress_.history);
    display_.line(fmt::format(
        "epoch {}: top-1 {:.2f}  top-5 {:.2f}  val loss {:.4f}  ({} images, {:.0f}/s){}", epoch,
        evaluation.top1, evaluation.top5, evaluation.loss, evaluation.images, evaluation.images_per_s,
        ema_ && epoch > 0 ? fmt::format("; not averaged: top-1 {:.2f}", row["raw_top1"].get<double>()) : ""));
  }

  TrainOptions options_;
  Method& method_;
  ProgressDisplay display_;
  RunContext context_;
  ResolvedOptions resolved_;
  Data data_;
  std::unique_ptr<Model> model_;
  Loader train_loader_;
  Loader val_loader_;
  std::vector<Phase> phases_;
  std::int64_t batches_ = 0;
  std::int64_t steps_per_epoch_ = 0;
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
  return Trainer(options, method, context).run();
}

nlohmann::json dry_run(const TrainOptions& options, Method& method) {
  return Trainer(options, method, {.command = {}, .quiet = true}).plan();
}

}  // namespace faq
