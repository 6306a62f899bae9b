#include "train/training_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>

#include "core/allocator.h"
#include "core/json.h"
#include "core/text.h"
#include "train/epoch_record.h"
#include "train/evaluate.h"
#include "train/lost_results.h"
#include "train/run_length.h"
#include "train/same_on_ranks.h"

namespace faq {
namespace {

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

const TrainOptions& with_folder(const TrainOptions& options) {
  check(!options.output_dir.empty(), ErrorKind::usage, "`output_dir` is required");
  return options;
}

// An image that is gone is missed by the list of all images, too.
const std::string way_on =
    "go on with `resume` auto, and with `skip_bad` N to pass over N such images (a file that is gone has to "
    "come back)";

double percent(std::int64_t part, double whole) { return 100.0 * static_cast<double>(part) / whole; }

}  // namespace

// --- beginning and resuming

TrainingLoop::TrainingLoop(const TrainOptions& options, Method& method, const RunContext& context)
    : method_(method),
      context_(context),
      listener_(context.ranks->is_first() ? context.listeners : std::vector<RunListener*>()),
      run_(with_folder(options), method, *context.ranks, context.open_split),
      stop_(run_.ranks, context.stop),
      skipped_(run_.train_loader, run_.val_loader, run_.options.skip_bad, run_.ranks, listener_),
      of_train_(sample_of(*run_.data.train)),
      of_val_(sample_of(*run_.data.val)),
      record_(record_of_run(run_.options, *run_.data.train, *run_.data.val, of_train_, of_val_)),
      began_at_(now()),
      folder_(run_.options, record_, listener_, run_.ranks),
      layers_(*run_.data.val, val_loader_options(run_.options, run_.data).transform) {
  // One rank lists the files for all, so this is how others notice that theirs are other ones.
  check_same_on_ranks(run_.ranks, {{"data:", record_.data}});
  if (const auto checkpoint = folder_.find_checkpoint())
    restore(*checkpoint);
  else
    begin();
  check_same_weights(run_.ranks, run_.learner, progress_.step);
}

RunStarted TrainingLoop::started() const {
  return {.options = run_.options,
          .folder = folder_.path(),
          .train_images = run_.data.train->size(),
          .val_images = run_.data.val->size(),
          .epoch = progress_.epoch,
          .step = progress_.step,
          .resumed_from = {},
          .machine = run_.cpus.lines,
          .data = notes_on_data()};
}

std::vector<std::string> TrainingLoop::notes_on_data() const {
  std::vector<std::string> notes{text_of_preprocessing(of_train_, run_.options, Split::train)};
  for (const Dataset* dataset : {run_.data.train.get(), run_.data.val.get()})
    for (std::string& note : dataset->notes())
      if (std::ranges::find(notes, note) == notes.end()) notes.push_back(std::move(note));
  return notes;
}

void TrainingLoop::begin() {
  listener_.started(started());
  for (const std::string& note : run_.learner.begin()) tell(listener_, note);
  for (const std::string& text : run_.warnings()) listener_.warning(text);
  begin_phase(run_.phases.front().index);
  folder_.write_config(context_.command);
}

void TrainingLoop::begin_phase(int phase) {
  const std::string said = run_.learner.begin_phase(phase, run_.training_batches());
  const std::vector<std::string> lines = split(said, '\n');
  listener_.phase_started({phase, method_.phases(), lines.front()});
  for (std::size_t i = 1; i < lines.size(); ++i) tell(listener_, lines[i]);
  progress_.phase = phase;
  progress_.best_top1 = -1;
  progress_.best_epoch = -1;
}

void TrainingLoop::restore(const CheckpointFolder::Found& found) {
  const std::string source = found.file.string();
  check(is_checkpoint(found.contents.metadata), ErrorKind::bad_data, "checkpoint ", source,
        ": not written by faq-train");
  check_has_checksums(found.contents, "checkpoint " + source);
  const RunRecord before = record_in(found.contents.metadata, source);
  const bool other_length = check_same_run(record_, before, source, method_.phases());
  // What it began with is in the checkpoint; another file has no part in this run.
  for (const char* origin : {"weights", "teacher"}) {
    if (!before.config.contains(origin) || before.config[origin] == record_.config.at(origin)) continue;
    listener_.warning(concat("`", origin, "` has no effect on a run that goes on: it began with ",
                             shortened(json_text(before.config[origin]), 120)));
    record_.config[origin] = before.config[origin];
  }
  const std::string origin = recorded_options(record_.config, source).weights;
  if (in_utf8(run_.options.weights) != origin) run_.options.weights = origin;
  progress_ = progress_in(found.contents.metadata, source);
  check_phase(progress_, method_, source);
  check(progress_.epoch <= run_.options.epochs, ErrorKind::bad_data, "checkpoint ", source, ": ",
        progress_.epoch, " epochs are done, `epochs` ", run_.options.epochs);
  check(progress_.step_in_epoch <= run_.steps_per_epoch, ErrorKind::bad_data, "checkpoint ", source,
        ": step ", progress_.step_in_epoch, " of an epoch of ", run_.steps_per_epoch);
  check(progress_.step == progress_.epoch * run_.steps_per_epoch + progress_.step_in_epoch,
        ErrorKind::bad_data, "checkpoint ", source, ": ", progress_.step, " steps are not ", progress_.epoch,
        " epochs of ", run_.steps_per_epoch, " and ", progress_.step_in_epoch, " more");
  if (const auto skipped = found.contents.metadata.find("skipped"); skipped != found.contents.metadata.end())
    skipped_.restore(skipped->second, source);
  run_.learner.restore(found.contents, source, progress_.phase);
  RunStarted event = started();
  event.resumed_from = found.file;
  listener_.started(event);
  if (const std::string text = machine_difference(record_, before); !text.empty()) {
    // docs/numerics.md, "One training on every CPU"
    if (run_.options.grad_format.value_or(GradFormat::s8) == GradFormat::s8 &&
        run_.options.scheme != Scheme::none)
      listener_.notice(concat(text, ": the same bits, but where a part of a step is in floating point"));
    else
      listener_.warning(concat(text, ": the run may not end with the bits of an uninterrupted one"));
  }
  if (folder_.goes_on_here()) {
    if (const std::string lost = lost_results(); !lost.empty() && !done()) listener_.warning(lost);
    if (other_length) folder_.write_config(context_.command);
    return;
  }
  // The best network so far is in another folder and stays there.
  progress_.best_top1 = -1;
  progress_.best_epoch = -1;
  folder_.write_config(context_.command);
}

// --- the loop

// Adds to a `diverged` error where it happened, and which checkpoint is left.
template <class Work>
auto TrainingLoop::naming_last_good(Work&& work) {
  try {
    return work();
  } catch (const Error& error) {
    if (error.kind() != ErrorKind::diverged) throw;
    const std::string text =
        concat("training diverged: ", error.what(), " at epoch ", progress_.epoch, ", step ", progress_.step,
               "; last good checkpoint: ", folder_.last_good());
    if (dynamic_cast<const AgreedError*>(&error) != nullptr) throw AgreedError(ErrorKind::diverged, text);
    if (dynamic_cast<const RemoteError*>(&error) != nullptr) throw;
    fail(ErrorKind::diverged, text);
  }
}

bool TrainingLoop::next() {
  return !stopped_ && naming_last_good([this] {
    try {
      return advance();
    } catch (const Error& error) {
      if (error.kind() == ErrorKind::bad_data) leave_saved(error);
      if (error.kind() != ErrorKind::stopped) throw;
      // Stopped while validating. Validation changes nothing that is not done again after a resume.
      folder_.save_last(snapshot(), progress_.step);
      stopped_ = true;
      return false;
    }
  });
}

// An image cannot be used. The step, or the validation, that met it has changed nothing yet, so what was
// trained before it is kept.
void TrainingLoop::leave_saved(const Error& error) {
  std::string text = error.what();
  if (progress_.step == 0) {
    text += "; `skip_bad` N passes over N such images";
  } else if (!in_epoch_ && !epoch_trained()) {
    // A phase has begun only in part. What the last epoch saved is the last that is whole.
    text += "; " + way_on;
  } else {
    try {
      write_checkpoint();
      text += concat("; saved ", folder_.last_good(), ": ", way_on);
    } catch (const Error& unsaved) {
      text += concat("; and then ", unsaved.what());
    }
  }
  if (dynamic_cast<const AgreedError*>(&error) != nullptr) throw AgreedError(error.kind(), text);
  if (dynamic_cast<const RemoteError*>(&error) != nullptr) throw RemoteError(error.kind(), text);
  fail(error.kind(), text);
}

bool TrainingLoop::advance() {
  if (progress_.step == 0 && !start_evaluated_) {
    evaluate_start();
    return !done();
  }
  if (done()) return false;
  const int interval = run_.options.checkpoint_interval;
  if (!epoch_trained()) {
    take_step();
    if (epoch_trained()) {
      // The end of the epoch, below, is part of this step.
    } else if (stop_.requested()) {
      count_and_write();
      stopped_ = true;
    } else if (interval > 0 && progress_.step % interval == 0) {
      count_and_write();
    }
  }
  if (epoch_trained()) {
    close_epoch();
    stopped_ = stop_.requested() && !done();
  }
  return !stopped_ && !done();
}

StepDone TrainingLoop::step() {
  return naming_last_good([this] { return take_step(); });
}

void TrainingLoop::finish_epoch() {
  naming_last_good([this] { close_epoch(); });
}

void TrainingLoop::save() {
  naming_last_good([this] { count_and_write(); });
}

void TrainingLoop::begin_epoch() {
  const Phase& phase = phase_at(run_.phases, progress_.epoch);
  if (phase.index != progress_.phase) begin_phase(phase.index);
  run_.train_loader.start_epoch_at_step(progress_.epoch, progress_.step_in_epoch);
  listener_.epoch_started({progress_.epoch});
  epoch_ = {};
  images_before_ = progress_.images;
  epoch_began_at_ = now();
  in_epoch_ = true;
}

StepDone TrainingLoop::take_step() {
  check(!done(), "training loop: a step after all ", progress_.epoch, " epochs");
  check(!epoch_trained(), "training loop: a step after all ", run_.steps_per_epoch,
        " of the epoch, finish_epoch() is next");
  if (!in_epoch_) begin_epoch();
  const Phase& phase = phase_at(run_.phases, progress_.epoch);
  const double epoch = static_cast<double>(progress_.epoch) + static_cast<double>(progress_.step_in_epoch) /
                                                                  static_cast<double>(run_.steps_per_epoch);
  const double lr = learning_rate(run_.schedule, phase, epoch);
  const Learner::Seen seen =
      run_.learner.step({.epoch = progress_.epoch,
                         .number = progress_.step,
                         .in_phase = progress_.step - phase.begin * run_.steps_per_epoch,
                         .phase_done = phase.done(epoch),
                         .lr = lr,
                         .shards = run_.train_loader.shards_of_step(progress_.step_in_epoch)},
                        run_.train_loader);
  progress_.loss_sum += seen.loss_sum;
  progress_.divergence_sum += seen.divergence_sum;
  progress_.correct += seen.correct;
  progress_.images += seen.images;
  ++progress_.step_in_epoch;
  ++progress_.step;
  epoch_ = {progress_.images - images_before_, now() - epoch_began_at_};
  const auto n = static_cast<double>(progress_.images);
  const StepDone event{.step = progress_.step,
                       .epoch = epoch,
                       .epochs = run_.options.epochs,
                       .epoch_index = progress_.epoch,
                       .step_in_epoch = progress_.step_in_epoch,
                       .steps_per_epoch = run_.steps_per_epoch,
                       .train_loss = progress_.loss_sum / n,
                       .train_divergence = mean_divergence(n),
                       .train_top1 = percent(progress_.correct, n),
                       .lr = lr,
                       .images_per_s = epoch_.rate(),
                       .seconds_left = (static_cast<double>(run_.options.epochs) - epoch) *
                                       static_cast<double>(run_.data.train->size()) / epoch_.rate(),
                       .logged = progress_.step % run_.options.print_freq == 0};
  listener_.step(event);
  return event;
}

std::optional<double> TrainingLoop::mean_divergence(double images) const {
  if (run_.options.distill == Distill::none) return {};
  return progress_.divergence_sum / images;
}

// --- evaluating

Evaluation TrainingLoop::evaluate() {
  Model& model = run_.learner.model();
  const NoGrad no_grad;
  Scores scores;
  return faq::evaluate([&](const Tensor& images) { return model.forward({}, Var(images)).value(); },
                       run_.val_loader, scores, listener_, context_.stop, run_.ranks);
}

Evaluation TrainingLoop::validate_epoch() {
  const Phase& phase = phase_at(run_.phases, progress_.epoch);
  const double last_step =
      static_cast<double>(progress_.epoch) +
      static_cast<double>(progress_.step_in_epoch - 1) / static_cast<double>(run_.steps_per_epoch);
  // What held the statistics of the epoch's last step holds them here, too.
  if (!holds_batch_norm_stats(run_.options, phase.done(last_step)))
    run_.learner.end_epoch(run_.training_batches());
  return evaluate();
}

void TrainingLoop::evaluate_start() {
  check(progress_.step == 0, "training loop: evaluate_start() after ", progress_.step, " steps");
  start_evaluated_ = true;
  progress_.history.clear();  // a run without epochs may be resumed too
  const Evaluation initial = evaluate();
  // With random weights and statistics that batch-norms have not learned, values grow from layer to layer.
  const bool began_random = record_.config.at("weights") == "";
  if (!std::isfinite(initial.loss) && began_random && run_.options.epochs > 0) {
    listener_.notice("epoch 0: the random network's validation loss is not finite; it is not counted");
    return;
  }
  check_agreed(std::isfinite(initial.loss), ErrorKind::diverged, "validation loss ", std::abs(initial.loss));
  record_epoch({.validation = initial, .history = progress_.history});
  if (run_.options.epochs > 0) return;
  progress_.best_top1 = initial.top1;
  progress_.best_epoch = 0;
  save_best();
  folder_.save_last(snapshot(), progress_.step);
}

void TrainingLoop::close_epoch() {
  check(!done() && epoch_trained(), "training loop: finish_epoch() after ", progress_.step_in_epoch,
        " steps of an epoch of ", run_.steps_per_epoch);
  in_epoch_ = false;
  check_same_weights(run_.ranks, run_.learner, progress_.step);
  trained_.images += epoch_.images;
  trained_.seconds += epoch_.seconds;
  const auto n = static_cast<double>(std::max<std::int64_t>(progress_.images, 1));
  const Phase& phase = phase_at(run_.phases, progress_.epoch);
  EpochDone epoch{.history = progress_.history};
  epoch.training = {.loss = progress_.loss_sum / n,
                    .divergence = mean_divergence(n),
                    .top1 = percent(progress_.correct, n),
                    .lr = learning_rate(run_.schedule, phase, static_cast<double>(progress_.epoch)),
                    .images_per_s = {}};
  if (epoch_.images > 0) epoch.training->images_per_s = epoch_.rate();
  std::optional<ModelEma::InPlace> averaged;
  if (ModelEma* average = run_.learner.average()) {
    epoch.not_averaged = validate_epoch();
    averaged.emplace(*average);
  }
  const Evaluation evaluation = epoch.validation = validate_epoch();
  check_agreed(std::isfinite(evaluation.loss), ErrorKind::diverged, "validation loss ",
               std::abs(evaluation.loss));
  epoch.epoch = progress_.epoch + 1;
  record_epoch(std::move(epoch));
  ++progress_.epoch;
  epoch_ = {};
  progress_.step_in_epoch = 0;
  progress_.loss_sum = 0;
  progress_.divergence_sum = 0;
  progress_.correct = 0;
  progress_.images = 0;
  const bool best = evaluation.top1 > progress_.best_top1;
  if (best) {
    progress_.best_top1 = evaluation.top1;
    progress_.best_epoch = progress_.epoch;
  }
  const NamedTensors contents = snapshot();  // handles: what they hold at the time of saving is saved
  if (best) save_best();
  averaged.reset();
  folder_.save_last(contents, progress_.step);
}

void TrainingLoop::record_epoch(EpochDone&& done) {
  done.step = progress_.step;
  done.skipped = skipped_.count();
  done.faulty = skipped_.count_faulty();
  done.peak_bytes = memory_stats().reserved;
  done.look = [this](const auto& see) { layers_.look(model(), see); };
  progress_.history.push_back(epoch_row(done));
  listener_.epoch(done);
}

// --- saving

// The contents that --resume reads.
NamedTensors TrainingLoop::snapshot() {
  if (!run_.ranks.is_first()) return {};  // nobody would save it
  NamedTensors contents = folder_.about_run(progress_);
  contents.metadata["skipped"] = skipped_.record();
  run_.learner.export_state(contents);
  return contents;
}

void TrainingLoop::write_checkpoint() {
  if (progress_.step_in_epoch > 0 && !epoch_trained())
    folder_.save_step(snapshot(), progress_.step);
  else
    folder_.save_last(snapshot(), progress_.step);
}

// With the images skipped so far: a run that goes on from here does not meet all of them again. All ranks
// call it.
void TrainingLoop::count_and_write() {
  skipped_.count();
  skipped_.count_faulty();
  write_checkpoint();
}

// Saves the network that evaluation and --weights of a later run read, and the network that is deployed.
void TrainingLoop::save_best() {
  if (!run_.ranks.is_first()) return;
  NamedTensors network = folder_.about_run(progress_);
  run_.learner.export_network(network);
  folder_.save_best(network, progress_.step);
  Method::Deployment deployment = run_.deployment();
  deployment.folder = folder_.path();
  deployment.about =
      integer_network_record(run_.options.model, progress_.epoch, checkpoint_id(network.metadata));
  const std::filesystem::path deployed = method_.deploy(run_.learner.model(), deployment);
  if (!deployed.empty()) listener_.saved({Saved::Kind::integer, deployed, progress_.step});
}

std::string TrainingLoop::lost_results() const {
  if (!run_.ranks.is_first() || progress_.best_epoch < 0) return "";
  return faq::lost_results(folder_.path(), progress_, method_.quantizes());
}

TrainResult TrainingLoop::finish() {
  const std::int64_t all_skipped = skipped_.count();  // and so nobody leaves before the first rank has saved
  const std::int64_t all_faulty = skipped_.count_faulty();
  const TrainResult result{.stopped = stopped_,
                           .epochs = progress_.epoch,
                           .initial = validation_in(progress_.history, 0),
                           .last = validation_in(progress_.history, progress_.epoch),
                           .best = validation_in(progress_.history, progress_.best_epoch),
                           .best_epoch = progress_.best_epoch,
                           .seconds = now() - began_at_,
                           .train_images_per_s = trained_.rate(),
                           .peak_bytes = memory_stats().reserved,
                           .skipped = all_skipped,
                           .faulty = all_faulty,
                           .ranks = run_.ranks.size(),
                           .exchange_seconds = run_.ranks.summing_seconds(),
                           .wait_seconds = run_.ranks.size() > 1 ? run_.learner.waited() : 0};
  if (done())
    if (const std::string lost = lost_results(); !lost.empty()) fail(ErrorKind::io, lost);
  listener_.finished({result});
  return result;
}

}  // namespace faq
