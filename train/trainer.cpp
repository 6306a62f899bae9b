#include "train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <set>

#include "core/allocator.h"
#include "core/atomic_file.h"
#include "core/json.h"
#include "train/metrics.h"
#include "train/run.h"
#include "train/run_record.h"
#include "train/signals.h"
#include "train/threads_text.h"

namespace faq {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

class Trainer {
 public:
  Trainer(const TrainOptions& options, Method& method, const RunContext& context)
      : method_(method),
        display_(context.quiet),
        context_(context),
        run_(options, method),
        record_(record_of_run(run_.options, *run_.data.train, *run_.data.val)) {}

  TrainResult train() {
    const auto start = Clock::now();
    open_folder();
    if (const auto checkpoint = find_checkpoint())
      restore(*checkpoint);
    else
      begin();
    metrics_.emplace(folder_->path(), progress_.step);
    reset_peak_memory();
    TrainResult result;
    try {
      result.stopped = !train_to_the_end();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::diverged) fail_diverged(error);
      throw;
    }
    result.epochs = progress_.epoch;
    result.best_epoch = progress_.best_epoch;
    result.initial = recorded(0);
    result.last = recorded(progress_.epoch);
    result.best = recorded(progress_.best_epoch);
    result.seconds = seconds_since(start);
    result.train_images_per_s = trained_.rate();
    result.peak_bytes = memory_stats().peak;
    result.skipped = run_.train_loader.skipped() + run_.val_loader.skipped();
    return result;
  }

 private:
  // Whether the run goes on in the folder its checkpoint is from.
  bool goes_on_here() const {
    if (run_.options.resume == "auto") return true;
    std::error_code ignored;
    return !run_.options.resume.empty() &&
           std::filesystem::equivalent(std::filesystem::path(run_.options.resume).parent_path() / ".",
                                       run_.options.output_dir, ignored);
  }

  void open_folder() {
    if (const std::string& file = run_.options.resume; !file.empty() && !goes_on_here())
      check(progress_in(read_safetensors_metadata(file), file).epoch < run_.options.epochs, ErrorKind::usage,
            "checkpoint ", file, " is of a finished run: nothing is left to train in another folder");
    folder_.emplace(run_.options.output_dir, run_.options.checkpoint_hist);
    check(goes_on_here() || !folder_->holds_checkpoints(), ErrorKind::usage, "output folder ",
          folder_->path(), " holds checkpoints of an earlier run: ",
          run_.options.resume.empty() ? "continue it with --resume auto, or choose another folder"
                                      : "choose another folder for what comes of " + run_.options.resume);
  }

  void say_threads() {
    for (const std::string& line : threads_text(run_.options.threads)) display_.line(line);
  }

  void begin() {
    say_threads();
    display_.line(fmt::format("{}: {} classes, {} training and {} validation images", run_.options.model,
                              run_.options.num_classes, run_.data.train->size(), run_.data.val->size()));
    for (const std::string& note : run_.learner.begin()) display_.line(note);
    for (const Phase& phase : run_.phases)
      if (phase.epochs() > 0 && run_.options.lr_warmup_epochs >= static_cast<double>(phase.epochs()))
        display_.line(fmt::format(
            "warning: --lr-warmup-epochs {}: the rate does not reach --lr within the {} epochs of phase {}",
            run_.options.lr_warmup_epochs, phase.epochs(), phase.index + 1));
    begin_phase(run_.phases.front().index);
    write_config();
  }

  void begin_phase(int phase) {
    const std::string said = run_.learner.begin_phase(phase, run_.training_batches());
    const std::string which =
        method_.phases() > 1 ? fmt::format("phase {} of {}", phase + 1, method_.phases()) : "";
    if (!said.empty() || !which.empty())
      display_.line(which + (which.empty() || said.empty() ? "" : ": ") + said);
    progress_.phase = phase;
    progress_.best_top1 = -1;
    progress_.best_epoch = -1;
  }

  // False when a signal stopped it, after saving.
  bool train_to_the_end() {
    try {
      if (progress_.step == 0) validate_start();
      while (progress_.epoch < run_.options.epochs) {
        const Phase& phase = phase_at(run_.phases, progress_.epoch);
        if (phase.index != progress_.phase) begin_phase(phase.index);
        if (!train_epoch(phase)) return false;
        finish_epoch(phase);
        if (stop_requested() && progress_.epoch < run_.options.epochs) return false;
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
    if (run_.options.epochs > 0) return;
    progress_.best_top1 = initial.top1;
    progress_.best_epoch = 0;
    save_best();
    folder_->save_last(snapshot());
  }

  std::optional<CheckpointFolder::Found> find_checkpoint() {
    if (run_.options.resume.empty()) return {};
    if (run_.options.resume == "auto")
      return folder_->newest([this](const std::string& text) { display_.line("warning: " + text); });
    return CheckpointFolder::Found{run_.options.resume, read_safetensors(run_.options.resume)};
  }

  void restore(const CheckpointFolder::Found& found) {
    const std::string source = found.file.string();
    check(is_checkpoint(found.contents.metadata), ErrorKind::bad_data, "checkpoint ", source,
          ": not written by faq-train");
    const RunRecord before = record_in(found.contents.metadata, source);
    check_same_run(record_, before, source);
    progress_ = progress_in(found.contents.metadata, source);
    check_phase(progress_, method_, source);
    check(progress_.step_in_epoch <= run_.steps_per_epoch, ErrorKind::bad_data, "checkpoint ", source,
          ": step ", progress_.step_in_epoch, " of an epoch of ", run_.steps_per_epoch);
    run_.learner.restore(found.contents, source, progress_.phase);
    say_threads();
    display_.line(fmt::format("resumed from {}: epoch {}, step {}", source, progress_.epoch, progress_.step));
    if (const std::string text = machine_difference(record_, before); !text.empty())
      display_.line("warning: " + text);
    if (goes_on_here()) return;
    // The best network so far is in another folder, and stays there.
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

  // What evaluation and a later run's --weights read.
  NamedTensors network() {
    NamedTensors contents = about_run();
    run_.learner.export_network(contents);
    return contents;
  }

  // What --resume reads.
  NamedTensors snapshot() {
    NamedTensors contents = about_run();
    run_.learner.export_state(contents);
    return contents;
  }

  NamedTensors about_run() const {
    NamedTensors contents;
    contents.metadata = record_.metadata();
    contents.metadata["progress"] = to_json(progress_).dump();
    return contents;
  }

  void write_config() const {
    const auto write = [this](const char* name, const nlohmann::json& json) {
      AtomicFile file(folder_->path() / name);
      file.write(json_text(json, 2) + "\n");
      file.commit();
    };
    nlohmann::json config = record_.config;
    config.erase("resume");
    write("config.json", config);
    nlohmann::json about = record_.machine;
    about.update({{"command", context_.command}, {"version", FAQ_VERSION}});
    write("run.json", about);
  }

  // `error` says what is not finite.
  [[noreturn]] void fail_diverged(const Error& error) const {
    const auto found = checkpoints_in(folder_->path(), [](const std::string&) {});
    const std::string last_good = found.empty() ? "none" : found.front().file.string();
    fail(ErrorKind::diverged, "training diverged: ", error.what(), " at epoch ", progress_.epoch, ", step ",
         progress_.step, "; last good checkpoint: ", last_good);
  }

  // False when a signal stopped it.
  bool train_epoch(const Phase& phase) {
    epoch_ = {};
    if (progress_.step_in_epoch == run_.steps_per_epoch) return true;  // stopped while it was validated
    run_.train_loader.start_epoch(progress_.epoch, progress_.step_in_epoch * run_.options.grad_accum_steps);
    display_.start();
    const auto start = Clock::now();
    const std::int64_t images_before = progress_.images;
    while (progress_.step_in_epoch < run_.steps_per_epoch) {
      const double epoch =
          static_cast<double>(progress_.epoch) +
          static_cast<double>(progress_.step_in_epoch) / static_cast<double>(run_.steps_per_epoch);
      const double lr = learning_rate(run_.schedule, phase, epoch);
      const Learner::Seen seen =
          run_.learner.step({.epoch = progress_.epoch,
                             .number = progress_.step,
                             .in_phase = progress_.step - phase.begin * run_.steps_per_epoch,
                             .phase_done = phase.done(epoch),
                             .lr = lr},
                            run_.train_loader);
      progress_.loss_sum += seen.loss_sum;
      progress_.correct += seen.correct;
      progress_.images += seen.images;
      ++progress_.step_in_epoch;
      ++progress_.step;
      epoch_ = {progress_.images - images_before, seconds_since(start)};
      report_step(epoch, lr);
      const bool epoch_done = progress_.step_in_epoch == run_.steps_per_epoch;
      if (stop_requested() && !epoch_done) {
        folder_->save_step(snapshot(), progress_.step);
        return false;
      }
      if (run_.options.checkpoint_interval > 0 && progress_.step % run_.options.checkpoint_interval == 0 &&
          !epoch_done) {
        folder_->save_step(snapshot(), progress_.step);
      }
    }
    return true;
  }

  void report_step(double epoch, double lr) {
    const bool logged = progress_.step % run_.options.print_freq == 0;
    if (!logged && !display_.due()) return;
    const auto n = static_cast<double>(progress_.images);
    const double rate = epoch_.rate();
    const double top1 = 100.0 * static_cast<double>(progress_.correct) / n;
    display_.update(
        {.title = fmt::format("epoch {}/{} step", progress_.epoch + 1, run_.options.epochs),
         .done = progress_.step_in_epoch,
         .total = run_.steps_per_epoch,
         .seconds_left = (static_cast<double>(run_.options.epochs) - epoch) *
                         static_cast<double>(run_.data.train->size()) / rate,
         .figures = {fmt::format("loss {:.4f}", progress_.loss_sum / n), fmt::format("top-1 {:.2f}", top1),
                     fmt::format("{:.0f} images/s", rate), fmt::format("lr {:.2e}", lr)}});
    if (!logged) return;
    metrics_->append({{"step", progress_.step},
                      {"epoch", epoch},
                      {"train_loss", progress_.loss_sum / n},
                      {"train_top1", top1},
                      {"lr", lr},
                      {"images_per_s", rate}});
  }

  Evaluation validate() {
    Model& model = run_.learner.model();
    const NoGrad no_grad;
    Scores scores;
    return evaluate([&](const Tensor& images) { return model.forward({}, Var(images)).value(); },
                    run_.val_loader, scores, display_);
  }

  Evaluation validate_epoch() {
    method_.end_epoch(run_.learner.model(), run_.training_batches());
    return validate();
  }

  void finish_epoch(const Phase& phase) {
    trained_.images += epoch_.images;
    trained_.seconds += epoch_.seconds;
    const auto n = static_cast<double>(std::max<std::int64_t>(progress_.images, 1));
    nlohmann::json row{{"train_loss", progress_.loss_sum / n},
                       {"train_top1", 100.0 * static_cast<double>(progress_.correct) / n},
                       {"lr", learning_rate(run_.schedule, phase, static_cast<double>(progress_.epoch))}};
    if (epoch_.images > 0) row["images_per_s"] = epoch_.rate();
    std::optional<ModelEma::InPlace> averaged;
    if (ModelEma* average = run_.learner.average()) {
      const Evaluation raw = validate_epoch();
      row["raw_top1"] = raw.top1;
      row["raw_val_loss"] = raw.loss;
      averaged.emplace(*average);
    }
    const Evaluation evaluation = validate_epoch();
    check(std::isfinite(evaluation.loss), ErrorKind::diverged, "validation loss ", evaluation.loss);
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
    Model& model = run_.learner.model();
    Method::Deployment deployment = run_.deployment();
    deployment.folder = folder_->path();
    deployment.about = integer_network_record(run_.options, progress_.epoch);
    method_.deploy(model, deployment);
  }

  void report_epoch(std::int64_t epoch, const Evaluation& evaluation, nlohmann::json row) {
    row["epoch"] = epoch;
    row["val_loss"] = evaluation.loss;
    row["top1"] = evaluation.top1;
    row["top5"] = evaluation.top5;
    row["val_images"] = evaluation.images;
    row["val_images_per_s"] = evaluation.images_per_s;
    row["skipped"] = report_skipped(run_.train_loader) + report_skipped(run_.val_loader);
    progress_.history.push_back(row);
    row["step"] = progress_.step;
    row["peak_bytes"] = memory_stats().peak;
    metrics_->append(row);
    metrics_->write_summary(progress_.history);
    display_.line(fmt::format(
        "epoch {}: top-1 {:.2f}  top-5 {:.2f}  val loss {:.4f}  ({} images, {:.0f}/s){}", epoch,
        evaluation.top1, evaluation.top5, evaluation.loss, evaluation.images, evaluation.images_per_s,
        row.contains("raw_top1") ? fmt::format("; not averaged: top-1 {:.2f}", row["raw_top1"].get<double>())
                                 : ""));
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

  Method& method_;
  ProgressDisplay display_;
  RunContext context_;
  Run run_;
  RunRecord record_;
  Speed epoch_;    // of this process in the epoch being trained
  Speed trained_;  // and in all epochs
  std::set<std::string> said_skipped_;
  std::optional<CheckpointFolder> folder_;
  std::optional<Metrics> metrics_;
  Progress progress_;
};

}  // namespace

TrainResult train(const TrainOptions& options, Method& method, const RunContext& context) {
  check(!options.output_dir.empty(), ErrorKind::usage, "--output-dir is required");
  install_stop_handlers();  // a signal while data are listed asks for the same as one during training
  return Trainer(options, method, context).train();
}

}  // namespace faq
