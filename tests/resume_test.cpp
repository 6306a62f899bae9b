// Runs that end early, in whatever way, and go on.
#include "tests/run_testing.h"
#include "train/checkpoint.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a run interrupted by signals ends with the same bits", "[resume]") {
  struct Row {
    const char* what;
    Words options;
    int steps;
    std::vector<std::pair<int, int>> interruptions;  // step, signal
  };
  const TemporaryFolder before;
  require_done(train_by_program(before.path(), {"--epochs", "1"}));
  const std::string pretrained = (before / "best.safetensors").string();
  const Row rows[] = {
      {"float", {}, 20, {{1, SIGTERM}, {7, SIGUSR1}, {14, SIGTERM}}},
      {"faq", faq_options, 20, {{3, SIGTERM}, {9, SIGINT}, {17, SIGTERM}}},
      {"faq, accumulated, smoothed, annealed, clipped",
       faq_options + Words{"--grad-accum-steps", "2", "--label-smoothing", "0.1", "--lr-scheduler", "cosine",
                           "--clip-grad-norm", "1", "--lr-warmup-epochs", "0.5"},
       10,
       {{2, SIGTERM}, {7, SIGTERM}}},
      {"float, accumulated with a rest", {"--grad-accum-steps", "3"}, 8, {{3, SIGTERM}, {5, SIGTERM}}},
      // At the end of an epoch a phase ends, too.
      {"first the weights, then both",
       faq_options + Words{"--stages", "weights,both", "--lr-scheduler", "cosine"},
       20,
       {{4, SIGTERM}, {10, SIGTERM}, {15, SIGTERM}}},
      {"fewer and fewer bits",
       {"--scheme", "faq", "--bits-schedule", "8,4"},
       20,
       {{9, SIGTERM}, {12, SIGTERM}}},
      {"stochastic precision",
       faq_options + Words{"--stochastic-precision"},
       20,
       {{6, SIGTERM}, {13, SIGTERM}}},
      {"joint distillation, accumulated",
       faq_options + Words{"--distill", "joint", "--grad-accum-steps", "2"},
       10,
       {{3, SIGTERM}, {6, SIGTERM}}},
      {"frozen distillation in phases",
       {"--scheme", "faq", "--bits-schedule", "8,4", "--calibration-batches", "2", "--distill", "frozen",
        "--weights", pretrained},
       20,
       {{5, SIGTERM}, {14, SIGTERM}}},
      {"everything at once",
       {"--scheme", "dorefa", "--bits", "4", "--stages", "weights,both", "--stochastic-precision",
        "--distill", "joint", "--model-ema", "--calibration-batches", "2"},
       20,
       {{4, SIGTERM}, {10, SIGTERM}, {15, SIGTERM}}},
      {"averaged, scales held from a moment on",
       faq_options + Words{"--model-ema", "--hold-weight-scales", "0.3"},
       20,
       {{3, SIGTERM}, {6, SIGTERM}, {13, SIGTERM}}},
      {"statistics of batch-norm frozen from a moment on, averaged, accumulated",
       faq_options + Words{"--freeze-batch-norm-stats", "0.6", "--model-ema", "--batch-norm-batches", "2"},
       20,
       {{4, SIGTERM}, {9, SIGTERM}, {12, SIGTERM}, {15, SIGTERM}}},
      {"averaged, in two phases, said to be equally long",
       {"--scheme", "faq", "--bits-schedule", "8,4", "--phase-epochs", "1,1", "--calibration-batches", "2",
        "--model-ema"},
       20,
       {{4, SIGTERM}, {12, SIGTERM}}},
      {"clusters",
       {"--scheme", "dfp", "--weight-bits", "2", "--calibration-batches", "2"},
       20,
       {{11, SIGTERM}}},
      {"learned scales",
       {"--scheme", "lsq", "--bits", "4", "--calibration-batches", "2"},
       20,
       {{3, SIGTERM}, {11, SIGTERM}}},
      {"learned scales of channels, in two stages, stochastic, distilled, averaged",
       {"--scheme", "lsq", "--bits", "2", "--weight-scales", "channel", "--stages", "weights,both",
        "--stochastic-precision", "--distill", "joint", "--model-ema", "--calibration-batches", "2"},
       20,
       {{4, SIGTERM}, {10, SIGTERM}, {15, SIGTERM}}},
      {"learned scales, fewer and fewer bits, accumulated, clipped",
       {"--scheme", "lsq", "--bits-schedule", "8,4", "--calibration-batches", "2", "--grad-accum-steps", "2",
        "--clip-grad-norm", "1"},
       10,
       {{3, SIGTERM}, {7, SIGTERM}}},
      {"dorefa", {"--scheme", "dorefa", "--bits", "4", "--calibration-batches", "2"}, 20, {{11, SIGTERM}}},
      {"8-bit gradients, accumulated, in phases",
       {"--scheme", "faq", "--bits-schedule", "8,4", "--calibration-batches", "2", "--grad-accum-steps", "2",
        "--grad-dtype", "s8"},
       10,
       {{3, SIGTERM}, {7, SIGTERM}}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder whole, parts;
    require_done(train_by_program(whole.path(), row.options));
    for (const auto& [step, signal] : row.interruptions) {
      INFO("signal " << signal << " after step " << step);
      Process process(FAQ_TRAIN, training(parts.path(), row.options + Words{"--checkpoint-interval", "1",
                                                                            "--resume", "auto"}));
      const bool in_time = process.wait_until([&, at = step] { return reached(parts.path(), at); });
      process.send(signal);
      const Outcome stopped = process.wait();
      INFO(stopped.err);
      REQUIRE(in_time);
      REQUIRE(stopped.code == 75);
      CHECK(stopped.err.find("--resume auto") != std::string::npos);
    }
    require_done(train_by_program(parts.path(), row.options + Words{"--resume", "auto"}));
    check_same_run(parts.path(), whole.path(), row.steps);
    const bool quantized = fs::exists(whole / "integer.safetensors");
    CHECK(quantized == (std::ranges::find(row.options, "--scheme") != row.options.end()));
    if (!quantized) continue;
    // What was trained by whatever method is what is deployed.
    const Outcome outcome =
        run_program(FAQ_EVAL, {"--weights", (whole / "integer.safetensors").string(), "--compare",
                               (whole / "best.safetensors").string(), "--data-path", images().string(),
                               "--threads", "1", "--json"});
    INFO(outcome.err);
    REQUIRE(outcome.code == 0);
    const json compared = json::parse(outcome.out);
    CHECK(compared["first_diverging_layer"] == "");
    for (const json& layer : compared["layers"]) CHECK(layer["difference"] == 0);
  }
}

TEST_CASE("a distilled run goes on without its teacher's file", "[resume]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "tinted",
                                {"--epochs", "1", "--mean", "0.2,0.7,0.4", "--std", "0.1,0.4,0.2"}));
  const std::string file = (folder / "teacher.safetensors").string();
  const Words options = faq_options + Words{"--distill", "frozen", "--teacher", file};
  fs::copy(folder / "tinted" / "best.safetensors", file);
  require_done(train_by_program(folder / "whole", options));
  Process process(FAQ_TRAIN, training(folder / "parts", options + Words{"--checkpoint-interval", "1"}));
  const bool in_time = process.wait_until([&] { return reached(folder / "parts", 7); });
  process.send(SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.err);
  REQUIRE(in_time);
  REQUIRE(stopped.code == 75);
  fs::remove(file);
  require_done(train_by_program(folder / "parts", options + Words{"--resume", "auto"}));
  check_same_run(folder / "parts", folder / "whole", 20);
}

TEST_CASE("a run goes on with the format of gradients that it began with, or not at all", "[resume]") {
  const TemporaryFolder whole, parts;
  const Words options = faq_options + Words{"--grad-dtype", "f32"};
  require_done(train_by_program(whole.path(), options));
  Process process(FAQ_TRAIN, training(parts.path(), options + Words{"--checkpoint-interval", "1"}));
  const bool in_time = process.wait_until([&] { return reached(parts.path(), 7); });
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  REQUIRE(in_time);
  const Outcome by_default = train_by_program(parts.path(), faq_options + Words{"--resume", "auto"});
  CHECK(by_default.code != 0);
  CHECK(by_default.err.find("grad-dtype was \"f32\", is now \"s8\"") != std::string::npos);
  require_done(train_by_program(parts.path(), options + Words{"--resume", "auto"}));
  check_same_run(parts.path(), whole.path(), 20);
}

TEST_CASE("a signal before the first step still ends with a checkpoint", "[resume]") {
  const TemporaryFolder output;
  Process process(FAQ_TRAIN, training(output.path(), faq_options));
  // The lock is taken first; then come weights, calibration and the first validation.
  const bool in_time = process.wait_until([&] { return fs::exists(output / "config.json"); });
  process.send(SIGTERM);
  process.send(SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.err);
  REQUIRE(in_time);
  CHECK(stopped.signal == 0);
  REQUIRE(stopped.code == 75);
  // At once, if that was during the validation, else after a step.
  CHECK((fs::exists(output / "last.safetensors") || fs::exists(output / "checkpoint-1.safetensors")));
  const TemporaryFolder whole;
  require_done(train_by_program(whole.path(), faq_options));
  require_done(train_by_program(output.path(), faq_options + Words{"--resume", "auto"}));
  check_same_run(output.path(), whole.path(), 20);
}

TEST_CASE("a signal during a validation does not wait for its end", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 40, 4000);
  const Words options{"--data-path",
                      (folder / "data").string(),
                      "--epochs",
                      "1",
                      "-b",
                      "20",
                      "--checkpoint-interval",
                      "1",
                      "--batch-norm-batches",
                      "2",
                      "--model-ema=0.5"};
  require_done(train_by_program(folder / "whole", faq_options + options));
  Process process(FAQ_TRAIN, training(folder / "parts", faq_options + options));
  const bool in_time = process.wait_until([&] { return reached(folder / "parts", 2); });  // of two steps
  process.send(SIGTERM);
  const Outcome stopped = process.wait();
  INFO(stopped.err);
  REQUIRE(in_time);
  REQUIRE(stopped.code == 75);
  const Progress progress =
      progress_in(read_safetensors_metadata(folder / "parts" / "last.safetensors"), "last.safetensors");
  CHECK(progress.epoch == 0);
  CHECK(progress.step_in_epoch == 2);
  require_done(train_by_program(folder / "parts", faq_options + options + Words{"--resume", "auto"}));
  for (const char* name : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
    INFO(name);
    CHECK(tensor_difference(folder / "parts" / name, folder / "whole" / name).empty());
  }
}

TEST_CASE("a run goes on without the file of its weights", "[resume]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "first", {"--epochs", "1"}));
  fs::copy(folder / "first" / "best.safetensors", folder / "weights.safetensors");
  const Words options =
      faq_options + Words{"--weights", (folder / "weights.safetensors").string(), "--resume", "auto"};
  Process process(FAQ_TRAIN, training(folder / "run", options));
  const bool in_time = process.wait_until([&] { return reached(folder / "run", 3); });
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  REQUIRE(in_time);
  fs::remove(folder / "weights.safetensors");
  require_done(train_by_program(folder / "run", options));
  CHECK(train_by_program(folder / "another", options).code == 66);
}

TEST_CASE("a run goes on from a checkpoint in a folder of its own", "[resume]") {
  const TemporaryFolder folder;
  const Words options = faq_options + Words{"--checkpoint-interval", "5"};
  require_done(train_by_program(folder / "whole", options));
  const std::string half = (folder / "whole" / "checkpoint-15.safetensors").string();
  const auto from = [&](const std::string& file, const char* output) {
    return train_by_program(folder / output, options + Words{"--resume", file});
  };
  require_done(from(half, "half"));
  for (const char* name :
       {"config.json", "run.json", "last.safetensors", "best.safetensors", "integer.safetensors"}) {
    INFO(name);
    CHECK(fs::exists(folder / "half" / name));
  }
  CHECK(
      tensor_difference(folder / "half" / "last.safetensors", folder / "whole" / "last.safetensors").empty());
  CHECK(lines_of(file_bytes(folder / "half" / "summary.csv")).size() == 4);

  const std::string best = file_bytes(folder / "whole" / "best.safetensors");
  require_done(train_by_program(folder / "other", options + Words{"--epochs", "1"}));
  const Outcome occupied = from(half, "other");
  CHECK(occupied.code == 64);
  CHECK(occupied.err.find("choose another folder") != std::string::npos);
  const Outcome finished = from((folder / "whole" / "last.safetensors").string(), "new");
  CHECK(finished.code == 64);
  CHECK(finished.err.find("finished run") != std::string::npos);
  CHECK(!fs::exists(folder / "new"));
  CHECK(file_bytes(folder / "whole" / "best.safetensors") == best);
}

TEST_CASE("a run of which no checkpoint can be read does not begin anew", "[resume]") {
  const TemporaryFolder output;
  write_file(output / "last.safetensors", "damaged");
  const std::string gone = (output / "gone.safetensors").string();
  const Outcome outcome = train_by_program(output.path(), {"--resume", "auto", "--weights", gone});
  CHECK(outcome.code == 65);
  CHECK(outcome.err.find("none of 1 checkpoints can be read") != std::string::npos);
}

TEST_CASE("a run goes on with its own images, and says when the machine is another", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 600, 30);
  const Words options = faq_options + Words{"--data-path", (folder / "data").string(), "--resume", "auto"};
  Process process(FAQ_TRAIN, training(folder / "run", options));
  const bool in_time = process.wait_until([&] { return reached(folder / "run", 1); });
  process.send(SIGTERM);
  REQUIRE(process.wait().code == 75);
  REQUIRE(in_time);

  fs::rename(folder / "data", folder / "moved");
  const Words moved = faq_options + Words{"--data-path", (folder / "moved").string(), "--resume", "auto"};
  fs::path image;
  for (const auto& entry : fs::directory_iterator(folder / "moved" / "train" / "across"))
    image = entry.path();
  fs::rename(image, folder / "image");
  const Outcome fewer = train_by_program(folder / "run", moved);
  INFO(fewer.err);
  CHECK(fewer.code == 65);
  CHECK(fewer.err.find("images for training was 600, is now 599") != std::string::npos);
  const fs::path renamed = image.parent_path() / concat("x", image.filename().string());
  fs::rename(folder / "image", renamed);
  const Outcome others = train_by_program(folder / "run", moved);
  INFO(others.err);
  CHECK(others.code == 65);
  CHECK(others.err.find("names and labels for training") != std::string::npos);
  fs::rename(renamed, image);
  const Outcome more_threads = train_by_program(folder / "run", moved + Words{"--threads", "2"});
  require_done(more_threads);
  CHECK(more_threads.err.find("threads 1 before and 2 now: the same bits") != std::string::npos);
  CHECK(more_threads.err.find("warning: threads") == std::string::npos);
}

TEST_CASE("a run killed at any moment ends with the same bits", "[resume]") {
  const TemporaryFolder whole, parts;
  require_done(train_by_program(whole.path(), faq_options));
  Random random(11, RandomStream::test);
  for (int kills = 0; kills < 6; ++kills) {
    Process process(FAQ_TRAIN, training(parts.path(), faq_options + Words{"--checkpoint-interval", "1",
                                                                          "--resume", "auto"}));
    // Somewhere in the two or so steps after the first one that is new.
    const int step = 1 + 3 * kills;
    process.wait_until([&, step = step] { return reached(parts.path(), step); });
    std::this_thread::sleep_for(std::chrono::microseconds(random.below(60000)));
    process.send(SIGKILL);
    process.wait();
    for (const auto& entry : fs::directory_iterator(parts.path())) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".safetensors")) continue;  // a temporary file of a save that was cut short
      INFO(name);
      CHECK_NOTHROW(read_safetensors(entry.path()));
    }
  }
  std::ofstream(parts / ".last.safetensors.tmp.1") << "of a process that was killed";
  require_done(train_by_program(parts.path(), faq_options + Words{"--resume", "auto"}));
  check_same_run(parts.path(), whole.path(), 20);
  for (const auto& entry : fs::directory_iterator(parts.path())) {
    const std::string name = entry.path().filename().string();
    INFO(name);
    CHECK((name == ".lock" || !name.starts_with('.')));
  }
}

TEST_CASE("config.json repeats a run", "[resume]") {
  const TemporaryFolder first, second;
  require_done(train_by_program(
      first.path(), faq_options + Words{"--epochs", "1", "--layer-bits", "layer2.*=5,6", "--layer-bits",
                                        "fc=7,7", "--mean", "0.4,0.5,0.45", "--std", "0.2,0.25,0.3"}));
  require_done(run_program(FAQ_TRAIN,
                           {"-c", (first / "config.json").string(), "--output-dir", second.path().string()}));
  CHECK(tensor_difference(first / "last.safetensors", second / "last.safetensors").empty());
  json a = json::parse(file_bytes(first / "config.json")),
       b = json::parse(file_bytes(second / "config.json"));
  CHECK(a.at("output-dir") != b.at("output-dir"));
  b["output-dir"] = a["output-dir"];
  CHECK(a == b);
}

TEST_CASE("what cannot be continued is refused", "[resume]") {
  const TemporaryFolder run;
  const Words trained = faq_options + Words{"--epochs", "1"};
  require_done(train_by_program(run.path(), trained));
  const std::string before = file_bytes(run / "last.safetensors");
  const auto refused = [&](const char* what, int code, const std::string& message, const Words& options) {
    INFO(what);
    const Outcome outcome = train_by_program(run.path(), options);
    INFO(outcome.err);
    CHECK(outcome.code == code);
    CHECK(outcome.out.empty());
    REQUIRE(!outcome.err.empty());
    CHECK(lines_of(outcome.err).back().find(message) != std::string::npos);
    CHECK(file_bytes(run / "last.safetensors") == before);
  };
  const NamedTensors good = read_safetensors(run / "last.safetensors");
  const auto damaged = [&](const char* key, const std::function<void(json&)>& change) {
    NamedTensors file = good;
    json text = json::parse(file.metadata.at(key));
    change(text);
    file.metadata[key] = text.dump();
    write_safetensors(run / "odd.safetensors", file);
    return trained + Words{"--resume", (run / "odd.safetensors").string()};
  };
  const Words resume{"--resume", "auto"};
  refused("no --resume", 64, "--resume auto", trained);
  refused("another model", 65, "model was \"resnet20\", is now \"resnet32\"",
          trained + resume + Words{"--model", "resnet32"});
  refused("other bits", 65, "weight-bits", trained + resume + Words{"--weight-bits", "8"});
  refused("not quantized", 65, "another run", Words{"--epochs", "1"} + resume);
  refused("another seed", 65, "seed was 3, is now 4", trained + resume + Words{"--seed", "4"});
  refused("a version with another option", 65, "unknown option 'future-option'",
          damaged("config", [](json& c) { c["future-option"] = 3; }));
  refused("a file that is not a checkpoint", 65, "not written by faq-train",
          trained + Words{"--resume", (run / "integer.safetensors").string()});
  refused("no such file", 66, "absent", trained + Words{"--resume", (run / "absent.safetensors").string()});
  // A phase the run does not have; and one that says nothing of options that came later.
  refused("no such phase", 65, "phase 3 of 1", damaged("progress", [](json& p) { p["phase"] = 3; }));
  refused("no phase", 65, "phase -1 of 1", damaged("progress", [](json& p) { p["phase"] = -1; }));
  const Outcome evaluated = run_program(FAQ_EVAL, {"--weights", (run / "odd.safetensors").string(),
                                                   "--data-path", images().string(), "--threads", "1"});
  CHECK(evaluated.code == 65);
  CHECK(evaluated.err.find("phase -1 of 1") != std::string::npos);
  require_done(train_by_program(run.path(), damaged("config", [](json& c) { c.erase("stages"); })));
  // An option that had another name.
  const auto renamed = [](json& c, const json& value) {
    c["hold-weight-steps"] = value;
    c.erase("hold-weight-scales");
  };
  require_done(
      train_by_program(run.path(), damaged("config", [&](json& c) { renamed(c, c["hold-weight-scales"]); })));
  refused("another value under the older name", 65, "hold-weight-scales was 0.5",
          damaged("config", [&](json& c) { renamed(c, 0.5); }));
  {
    const CheckpointFolder held(run.path(), 2);
    refused("held by another run", 64, "another run is writing", trained + resume);
  }
  // A run that is complete stays what it is.
  const Outcome again = train_by_program(run.path(), trained + resume + Words{"--json"});
  require_done(again);
  CHECK(file_bytes(run / "last.safetensors") == before);
  CHECK(json::parse(again.out)["last"]["top1"] == metrics(run.path()).back()["top1"]);
}

TEST_CASE("no epochs: calibrated, quantized, and continued as often as one likes", "[resume]") {
  const TemporaryFolder output;
  const Words options = faq_options + Words{"--epochs", "0", "--resume", "auto"};
  for (int i = 0; i < 2; ++i) {
    INFO("run " << i);
    require_done(train_by_program(output.path(), options));
    CHECK(fs::exists(output / "integer.safetensors"));
    CHECK(epochs_of(output.path()) == std::vector{0});
    CHECK(lines_of(file_bytes(output / "summary.csv")).size() == 2);
  }
}
