#include "train/training_loop.h"

#include <cmath>
#include <set>

#include "core/cpu.h"
#include "tests/run_testing.h"
#include "train/image_sample.h"
#include "train/metrics.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/trainer.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Ten steps an epoch, quantized, with a moving average.
TrainOptions options_for(const fs::path& output, std::vector<Setting> more = {}) {
  std::vector<Setting> settings{{"model", "resnet20"},
                                {"data-path", images().string()},
                                {"output-dir", output.string()},
                                {"epochs", "2"},
                                {"batch-size", "20"},
                                {"lr", "0.01"},
                                {"threads", "1"},
                                {"workers", "1"},
                                {"print-freq", "1"},
                                {"seed", "3"},
                                {"scheme", "faq"},
                                {"bits", "4"},
                                {"grad-dtype", "f32"},
                                {"calibration-batches", "2"},
                                {"batch-norm-batches", "2"},
                                {"model-ema", "0.5"}};
  settings.insert(settings.end(), more.begin(), more.end());
  return assemble(json::object(), settings);
}

TrainResult run(const TrainOptions& options, RunListener* listener = nullptr, const StopToken& stop = {}) {
  Metrics metrics;
  std::vector<RunListener*> listeners{&metrics};
  if (listener) listeners.push_back(listener);
  const auto method = make_method(options);
  return train(options, *method, {.listeners = listeners, .stop = stop});
}

// The same run without an interruption, made once.
const fs::path& whole() {
  static const TemporaryFolder folder;
  static const bool trained = (run(options_for(folder.path())), true);
  (void)trained;
  return folder.path();
}

// Requests a stop at one moment of the run.
struct Stopper final : RunListener {
  StopToken token;
  std::int64_t after_step = -1;
  std::int64_t at_evaluation = -1;  // the how many-th, before its first batch
  std::int64_t steps = 0, evaluations = 0;

  void step(const StepDone& event) override {
    ++steps;
    if (event.step == after_step) token.request_stop();
  }
  void evaluating(const Evaluating& event) override {
    if (event.batches == 0 && evaluations++ == at_evaluation) token.request_stop();
  }
};

// Every event in a word or two.
struct Recorder final : RunListener {
  std::vector<std::string> events;
  std::optional<EpochTraining> training;
  std::int64_t logged = 0;

  void started(const RunStarted& e) override {
    events.push_back(concat("started at step ", e.step, e.resumed_from.empty() ? "" : ", resumed"));
    CHECK(e.train_images == 200);
    CHECK(e.val_images == 50);
    CHECK(e.options.num_classes == 3);
  }
  void phase_started(const PhaseStarted& e) override { events.push_back(concat("phase ", e.index)); }
  void epoch_started(const EpochStarted& e) override { events.push_back(concat("in epoch ", e.epoch)); }
  void step(const StepDone& e) override {
    events.push_back(concat("step ", e.step));
    CHECK(e.step_in_epoch == (e.step - 1) % 10 + 1);
    CHECK(e.steps_per_epoch == 10);
    logged += e.logged;
  }
  void evaluated() override { events.emplace_back("evaluated"); }
  void epoch(const EpochDone& e) override {
    events.push_back(concat("epoch ", e.epoch));
    CHECK(e.validation.images == 50);
    CHECK(e.training.has_value() == (e.epoch > 0));
    CHECK(e.not_averaged.has_value() == (e.epoch > 0));
    CHECK(e.history.back()["top1"] == e.validation.top1);
    CHECK(static_cast<std::int64_t>(e.history.size()) == e.epoch + 1);
  }
  void saved(const Saved& e) override {
    events.push_back(concat("saved ", e.file.filename().string()));
    CHECK(fs::exists(e.file));
  }
  void finished(const RunFinished& e) override {
    events.emplace_back(e.result.stopped ? "stopped" : "finished");
  }
};

std::vector<std::string> steps(int first, int last) {
  std::vector<std::string> words;
  for (const int step : count_to(first, last)) words.push_back(concat("step ", step));
  return words;
}

}  // namespace

TEST_CASE("a run that a listener stops ends with the same bits once resumed", "[training_loop]") {
  struct Row {
    const char* what;
    std::int64_t after_step, at_evaluation;
    const char* saved;
    std::int64_t steps;  // done before
  };
  for (const Row& row : {Row{"within an epoch", 3, -1, "checkpoint-3.safetensors", 3},
                         Row{"after the last step of an epoch", 10, -1, "last.safetensors", 10},
                         Row{"after the first step of another", 11, -1, "checkpoint-11.safetensors", 11},
                         Row{"in the first evaluation", -1, 0, "last.safetensors", 0},
                         Row{"in the evaluation of the average", -1, 2, "last.safetensors", 10}}) {
    INFO(row.what);
    const TemporaryFolder output;
    Stopper stopper;
    stopper.after_step = row.after_step;
    stopper.at_evaluation = row.at_evaluation;
    const TrainResult stopped = run(options_for(output.path()), &stopper, stopper.token);
    CHECK(stopped.stopped);
    CHECK(stopper.steps == row.steps);
    CHECK(stopped.epochs == std::max<std::int64_t>(row.steps - 1, 0) / 10);
    CHECK(fs::exists(output / row.saved));
    const TrainResult resumed = run(options_for(output.path(), {{"resume", "auto"}}));
    CHECK_FALSE(resumed.stopped);
    CHECK(resumed.epochs == 2);
    check_same_run(output.path(), whole(), 20);
  }
}

TEST_CASE("stepped by hand, a run has the same bits", "[training_loop]") {
  const TemporaryFolder output;
  const TrainOptions options = options_for(output.path());
  const auto method = make_method(options);
  Metrics metrics;
  TrainingLoop loop(options, *method, {.listeners = {&metrics}});
  CHECK_THROWS_AS(loop.finish_epoch(), Error);  // nothing is trained
  loop.evaluate_start();
  while (!loop.done()) {
    const StepDone step = loop.step();
    CHECK(step.step == loop.progress().step);
    if (step.step == 15) {  // looking on, and saving, changes nothing
      CHECK(loop.evaluate().images == 50);
      loop.save();
      CHECK(fs::exists(output / "checkpoint-15.safetensors"));
    }
    CHECK(loop.epoch_trained() == (step.step_in_epoch == 10));
    if (!loop.epoch_trained()) continue;
    CHECK_THROWS_AS(loop.step(), Error);  // the epoch is to be finished
    loop.finish_epoch();
  }
  CHECK_FALSE(loop.next());
  CHECK_THROWS_AS(loop.step(), Error);
  CHECK(loop.finish().last.images == 50);
  check_same_run(output.path(), whole(), 20);
}

TEST_CASE("a phase that cannot begin leaves the checkpoint of the one before it", "[training_loop]") {
  const TemporaryFolder folder;
  const auto options = [&](const char* output, std::vector<Setting> more = {}) {
    const std::vector<Setting> two_phases{{"data-path", (folder / "data").string()},
                                          {"stages", "weights,both"}};
    more.insert(more.end(), two_phases.begin(), two_phases.end());
    return options_for(folder / output, std::move(more));
  };
  write_data_set(folder / "data");
  run(options("whole"));
  {
    const TrainOptions first = options("run");
    const auto method = make_method(first);
    Metrics metrics;
    TrainingLoop loop(first, *method, {.listeners = {&metrics}});
    loop.evaluate_start();
    while (!loop.epoch_trained()) loop.step();
    loop.finish_epoch();
  }
  const std::string last = file_bytes(folder / "run" / "last.safetensors");

  // The second phase calibrates. All training images are damaged but those that a run compares when it goes
  // on.
  const fs::path train = folder / "data" / "train";
  fs::copy(train, folder / "kept", fs::copy_options::recursive);
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(train))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::ranges::sort(files);
  const std::int64_t images = std::ssize(files);
  std::set<std::int64_t> compared;
  for (std::int64_t i = 0; i < images_in_sample; ++i) compared.insert(i * images / images_in_sample);
  for (std::int64_t i = 0; i < images; ++i)
    if (!compared.contains(i)) write_file(files[static_cast<std::size_t>(i)], "no image");
  try {
    run(options("run", {{"resume", "auto"}}));
    FAIL("the images are damaged");
  } catch (const Error& error) {
    INFO(error.what());
    CHECK(error.kind() == ErrorKind::bad_data);
    CHECK(std::string(error.what())
              .ends_with("; go on with `resume` auto, and with `skip_bad` N to pass over N such images "
                         "(a file that is gone has to come back)"));
  }
  CHECK((file_bytes(folder / "run" / "last.safetensors") == last));

  fs::remove_all(train);
  fs::rename(folder / "kept", train);
  run(options("run", {{"resume", "auto"}}));
  check_same_run(folder / "run", folder / "whole", 20);
}

TEST_CASE("two runs of a process go on side by side and stop apart", "[training_loop]") {
  const TemporaryFolder first, second;
  const TrainOptions options = options_for(first.path()), other_options = options_for(second.path());
  const auto method = make_method(options), other_method = make_method(other_options);
  Stopper stopper;
  stopper.after_step = 4;
  Metrics metrics, other_metrics;
  TrainingLoop loop(options, *method, {.listeners = {&metrics, &stopper}, .stop = stopper.token});
  TrainingLoop other(other_options, *other_method, {.listeners = {&other_metrics}});
  for (bool one = true, both = true; one || both;) {
    one = loop.next();
    both = other.next();
  }
  CHECK(loop.stopped());
  CHECK(loop.progress().step == 4);
  CHECK_FALSE(loop.next());  // until it is resumed
  CHECK_FALSE(other.stopped());
  check_same_run(second.path(), whole(), 20);
}

TEST_CASE("a run is a sequence of events", "[training_loop]") {
  const TemporaryFolder output;
  Stopper stopper;
  stopper.after_step = 12;
  Recorder first, second;
  RunListeners both({&first, &stopper});
  const std::vector<Setting> seldom{{"print-freq", "3"}};
  run(options_for(output.path(), seldom), &both, stopper.token);
  using Events = std::vector<std::string>;
  CHECK(first.events == Events{"started at step 0", "phase 0", "evaluated", "epoch 0", "in epoch 0"} +
                            steps(1, 10) +
                            Events{"evaluated", "evaluated", "epoch 1", "saved best.safetensors",
                                   "saved integer.safetensors", "saved last.safetensors", "in epoch 1"} +
                            steps(11, 12) + Events{"saved checkpoint-12.safetensors", "stopped"});
  CHECK(first.logged == 4);
  const TrainResult result =
      run(options_for(output.path(), {{"resume", "auto"}, {"print-freq", "3"}}), &second);
  Events expected = Events{"started at step 12, resumed", "in epoch 1"} + steps(13, 20) +
                    Events{"evaluated", "evaluated", "epoch 2"};
  if (result.best_epoch == 2)
    for (const char* file : {"best.safetensors", "integer.safetensors"})
      expected.push_back(concat("saved ", file));
  CHECK(second.events == expected + Events{"saved last.safetensors", "finished"});
  CHECK(second.logged == 2);
  CHECK(steps_of(output.path()) == std::vector{3, 6, 9, 12, 15, 18});
}

TEST_CASE("what a run says beside its events is a notice or a warning", "[training_loop]") {
  struct Lines final : RunListener {
    std::vector<std::string> lines;
    void notice(const std::string& text) override { lines.push_back("notice " + text); }
    void warning(const std::string& text) override { lines.push_back("warning " + text); }
  } lines;
  tell(lines, "weights: random");
  tell(lines, "warning: few");
  tell(lines, "no warning: none");
  CHECK(lines.lines ==
        std::vector<std::string>{"notice weights: random", "warning few", "notice no warning: none"});
}

TEST_CASE("a deep network trains from random weights that it cannot be evaluated with", "[training_loop]") {
  // Its values grow beyond f32 as long as batch-norms have no statistics; the deviation makes sure of it.
  const auto options = [](const fs::path& output, const char* epochs) {
    return options_for(output, {{"model", "densenet201"},
                                {"scheme", "none"},
                                {"std", "1e-12,1e-12,1e-12"},
                                {"epochs", epochs},
                                {"train-crop-size", "64"},
                                {"val-crop-size", "64"},
                                {"val-resize-size", "64"},
                                {"model-ema", "0"},
                                {"batch-norm-batches", "0"}});
  };
  const TemporaryFolder output;
  const TrainResult result = run(options(output / "one", "1"));
  CHECK(result.initial.images == 0);
  CHECK(std::isfinite(result.last.loss));
  check_error(ErrorKind::diverged, "validation loss", [&] { run(options(output / "none", "0")); });
}

TEST_CASE("floating-point training computes gradients in the format it is given", "[training_loop]") {
  if (!has_native_bf16()) return;
  const TemporaryFolder output;
  const auto loss = [&](const char* format) {
    return run(options_for(output / format, {{"scheme", "none"},
                                             {"epochs", "1"},
                                             {"grad-dtype", format},
                                             {"model-ema", "0"},
                                             {"batch-norm-batches", "0"}}))
        .last.loss;
  };
  const double f32 = loss("f32"), bf16 = loss("bf16");
  CHECK(bf16 != f32);
  CHECK(bf16 == Approx(f32).epsilon(0.1));
}
