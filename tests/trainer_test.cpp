#include "train/trainer.h"

#include <limits>

#include "core/kernels/elementwise.h"
#include "nn/models.h"
#include "tests/testing.h"
#include "tools/quantization.h"
#include "train/checkpoint.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

namespace {

using Words = std::vector<std::string>;

// 200 training images in batches of 20: ten steps an epoch.
const fs::path& images() {
  static const TemporaryFolder folder;
  static const bool written = (write_data_set(folder.path()), true);
  (void)written;
  return folder.path();
}

Words training(const fs::path& output, const Words& more = {}) {
  return Words{"--model",      "resnet20",
               "--data-path",  images().string(),
               "--output-dir", output.string(),
               "--epochs",     "2",
               "-b",           "20",
               "--lr",         "0.01",
               "--threads",    "1",
               "-j",           "1",
               "--print-freq", "1",
               "--seed",       "3"} +
         more;
}

const Words faq_options{"--scheme", "faq", "--bits", "4", "--calibration-batches", "2"};

Outcome train_by_program(const fs::path& output, const Words& more = {}) {
  return run_program(FAQ_TRAIN, training(output, more));
}

void require_done(const Outcome& outcome) {
  INFO(outcome.err);
  REQUIRE(outcome.signal == 0);
  REQUIRE(outcome.code == 0);
}

std::vector<json> metrics(const fs::path& output) {
  std::vector<json> lines;
  for (const std::string& line : lines_of(file_bytes(output / "metrics.jsonl")))
    lines.push_back(json::parse(line));
  return lines;
}

// The steps of the lines of training, and the epochs of those of validation.
std::vector<int> steps_of(const fs::path& output) {
  std::vector<int> steps;
  for (const json& line : metrics(output))
    if (!line.contains("top1")) steps.push_back(line.at("step"));
  return steps;
}
std::vector<int> epochs_of(const fs::path& output) {
  std::vector<int> epochs;
  for (const json& line : metrics(output))
    if (line.contains("top1")) epochs.push_back(line.at("epoch"));
  return epochs;
}

std::vector<int> count_to(int first, int last) {
  std::vector<int> numbers;
  for (int i = first; i <= last; ++i) numbers.push_back(i);
  return numbers;
}

// Everything a finished run leaves behind, against that of another one.
void check_same_run(const fs::path& actual, const fs::path& expected, int steps) {
  for (const char* name : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
    if (!fs::exists(expected / name)) continue;
    INFO(name);
    REQUIRE(fs::exists(actual / name));
    CHECK(tensor_difference(actual / name, expected / name).empty());
  }
  CHECK(steps_of(actual) == count_to(1, steps));
  CHECK(epochs_of(actual) == std::vector{0, 1, 2});
  const auto rows = [](const fs::path& folder) {  // without the last column, which is a speed
    std::vector<std::string> kept;
    for (const std::string& line : lines_of(file_bytes(folder / "summary.csv")))
      kept.push_back(line.substr(0, line.rfind(',')));
    return kept;
  };
  CHECK(rows(actual).size() == 4);  // header, before training, two epochs
  CHECK(rows(actual) == rows(expected));
}

bool reached(const fs::path& output, int step) {
  const fs::path file = output / "metrics.jsonl";
  if (!fs::exists(file)) return false;
  return file_bytes(file).find(concat("\"step\":", step, ",")) != std::string::npos;
}

}  // namespace

TEST_CASE("scores count ranks", "[trainer]") {
  constexpr float nan = std::numeric_limits<float>::quiet_NaN();
  struct Row {
    std::vector<float> logits;
    std::int32_t label;
    bool top1, top5;
  };
  const Row rows[] = {
      {{1, 2, 3, 4, 5, 6, 7}, 6, true, true},
      {{1, 2, 3, 4, 5, 6, 7}, 2, false, true},
      {{1, 2, 3, 4, 5, 6, 7}, 1, false, false},
      {{5, 5, 5, 5, 5, 5, 5}, 0, true, true},
      {{5, 5, 5, 5, 5, 5, 5}, 4, false, true},
      {{5, 5, 5, 5, 5, 5, 5}, 5, false, false},
      {{nan, 1, 1, 1, 1, 1, 1}, 0, false, false},
      {{nan, 1, 0, 0, 0, 0, 0}, 1, false, true},
      {{nan, nan, nan, nan, nan, nan, nan}, 0, false, false},
  };
  double top1 = 0, top5 = 0;
  Scores together;
  for (const Row& row : rows) {
    INFO("label " << row.label);
    const Tensor logits = Tensor::from<float>({1, 7}, row.logits);
    Scores scores;
    scores.add(logits, std::span(&row.label, 1));
    together.add(logits, std::span(&row.label, 1));
    CHECK(scores.result().top1 == (row.top1 ? 100 : 0));
    CHECK(scores.result().top5 == (row.top5 ? 100 : 0));
    top1 += row.top1;
    top5 += row.top5;
  }
  CHECK(together.result().images == static_cast<std::int64_t>(std::size(rows)));
  CHECK(together.result().top1 == Approx(100 * top1 / std::size(rows)));
  CHECK(together.result().top5 == Approx(100 * top5 / std::size(rows)));
  CHECK(Scores().result().images == 0);
}

TEST_CASE("batch-norm's statistics are taken anew before every evaluation", "[trainer]") {
  // Spoils what the running averages have become before the inner method takes them anew.
  class Spoiled final : public Method {
   public:
    explicit Spoiled(std::unique_ptr<Method> inner) : inner_(std::move(inner)) {}
    std::string begin_phase(Model& model, int phase, const BatchSource& batches) override {
      return inner_->begin_phase(model, phase, batches);
    }
    void before_step(Model& model, double done, std::int64_t step) override {
      inner_->before_step(model, done, step);
    }
    void end_epoch(Model& model, const BatchSource& batches) override {
      ++epochs;
      for (Named<Tensor>& buffer : buffers(model))
        if (buffer.name.find("running_") != std::string::npos)
          std::ranges::fill(buffer.value.mutable_span<float>(), 7.0f);
      inner_->end_epoch(model, batches);
    }
    void deploy(Model& model, const Deployment& deployment) override { inner_->deploy(model, deployment); }
    int epochs = 0;

   private:
    std::unique_ptr<Method> inner_;
  };

  const TemporaryFolder plain, spoiled;
  require_done(train_by_program(plain.path(), faq_options + Words{"--batch-norm-batches", "3"}));
  const json config = json::parse(file_bytes(plain / "config.json"));
  const TrainOptions options = assemble(config, {{"output-dir", spoiled.path().string()}});
  Spoiled method(make_method(options));
  const TrainResult result = train(options, method, {.command = {}, .quiet = true});
  CHECK(method.epochs == 2);
  check_same_run(spoiled.path(), plain.path(), 20);

  // What was evaluated is what was saved: taken anew before the one and not after it.
  const Outcome evaluated = run_program(FAQ_EVAL, {"--weights", (plain / "last.safetensors").string(),
                                                   "--data-path", images().string(), "--json"});
  require_done(evaluated);
  CHECK(json::parse(evaluated.out)["loss"].get<double>() == Approx(result.last.loss).epsilon(1e-12));
}

TEST_CASE("taking batch-norm's statistics anew changes them and nothing else", "[trainer]") {
  const TemporaryFolder averaged, anew, fewer;
  require_done(train_by_program(averaged.path(), faq_options));
  require_done(train_by_program(anew.path(), faq_options + Words{"--batch-norm-batches", "3"}));
  require_done(train_by_program(fewer.path(), faq_options + Words{"--batch-norm-batches", "2"}));
  const auto last = [](const TemporaryFolder& run) { return read_safetensors(run / "last.safetensors"); };
  const NamedTensors before = last(averaged), after = last(anew), other = last(fewer);
  for (const auto& [name, tensor] : before.tensors) {
    INFO(name);
    const bool statistic = name.find("running_") != std::string::npos;
    REQUIRE(after.find(name));
    CHECK(reference::same_bytes(tensor, *after.find(name)) != statistic);
    CHECK(reference::same_bytes(*other.find(name), *after.find(name)) != statistic);
  }
}

TEST_CASE("a run learns, and writes down what it did", "[trainer]") {
  for (const bool quantized : {false, true}) {
    INFO("quantized: " << quantized);
    const TemporaryFolder output;
    const Outcome outcome =
        train_by_program(output.path(), (quantized ? faq_options : Words{}) + Words{"--json"});
    require_done(outcome);
    const json result = json::parse(outcome.out);
    CHECK(result["epochs"] == 2);
    CHECK(result["stopped"] == false);
    CHECK(result["last"]["images"] == 50);
    CHECK(result["best"]["top1"].get<double>() >= result["last"]["top1"].get<double>());

    const std::vector<json> lines = metrics(output.path());
    double first = 0, second = 0;
    for (const json& line : lines) {
      if (line.contains("top1") && line["epoch"] == 1) first = line["train_loss"];
      if (line.contains("top1") && line["epoch"] == 2) second = line["train_loss"];
    }
    CHECK(first > 0);
    CHECK(second < 0.8 * first);
    // Of three classes; whoever learns has 64 and more, whatever the rounding of sums.
    CHECK(result["best"]["top1"].get<double>() > 50);
    CHECK(steps_of(output.path()) == count_to(1, 20));
    CHECK(epochs_of(output.path()) == std::vector{0, 1, 2});
    for (const char* name :
         {"config.json", "run.json", "summary.csv", "last.safetensors", "best.safetensors"})
      CHECK(fs::exists(output / name));
    CHECK(fs::exists(output / "integer.safetensors") == quantized);
    CHECK(json::parse(file_bytes(output / "config.json"))["scheme"] == (quantized ? "faq" : "none"));
    for (const auto& entry : fs::directory_iterator(output.path()))
      CHECK(entry.path().string().find(".tmp.") == std::string::npos);
  }
}

TEST_CASE("a run interrupted by signals ends with the same bits", "[trainer]") {
  struct Row {
    const char* what;
    Words options;
    int steps;
    std::vector<std::pair<int, int>> interruptions;  // step, signal
  };
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
      {"clusters",
       {"--scheme", "dfp", "--weight-bits", "2", "--calibration-batches", "2"},
       20,
       {{11, SIGTERM}}},
      {"dorefa", {"--scheme", "dorefa", "--bits", "4", "--calibration-batches", "2"}, 20, {{11, SIGTERM}}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder whole, parts;
    require_done(train_by_program(whole.path(), row.options));
    for (const auto& [step, signal] : row.interruptions) {
      INFO("signal " << signal << " after step " << step);
      Process process(FAQ_TRAIN, training(parts.path(), row.options + Words{"--checkpoint-interval", "1",
                                                                            "--resume", "auto"}));
      const bool in_time = process.wait_until([&, step = step] { return reached(parts.path(), step); });
      process.send(signal);
      const Outcome stopped = process.wait();
      INFO(stopped.err);
      REQUIRE(in_time);
      REQUIRE(stopped.code == 75);
      CHECK(stopped.err.find("--resume auto") != std::string::npos);
    }
    require_done(train_by_program(parts.path(), row.options + Words{"--resume", "auto"}));
    check_same_run(parts.path(), whole.path(), row.steps);
  }
}

TEST_CASE("phases have their own schedule, momentum and best network", "[trainer]") {
  const TemporaryFolder output;
  require_done(
      train_by_program(output.path(), {"--scheme", "faq", "--bits-schedule", "8,6,4", "--stages",
                                       "weights,both", "--epochs", "9", "--lr-scheduler", "cosine"}));
  // Four phases share nine epochs: 0–2, 2–4, 4–6, 6–9.
  std::vector<double> rates;
  for (const json& line : metrics(output.path()))
    if (!line.contains("top1")) rates.push_back(line.at("lr"));
  REQUIRE(rates.size() == 90);
  for (std::size_t step = 0; step < 90; ++step) {
    INFO("step " << step);
    const bool restarts = step == 0 || step == 20 || step == 40 || step == 60;
    CHECK((rates[step] == Approx(0.01)) == restarts);
    if (!restarts) CHECK(rates[step] < rates[step - 1]);
  }
  const auto progress = json::parse(read_safetensors_metadata(output / "last.safetensors").at("progress"));
  CHECK(progress["phase"] == 3);
  CHECK(progress["best_epoch"].get<int>() > 6);
  double best = 0;
  for (const json& row : progress["history"])
    if (row["epoch"] > 6) best = std::max(best, row["top1"].get<double>());
  CHECK(progress["best_top1"] == best);
  // And that is what evaluates and is deployed.
  for (const char* file : {"best.safetensors", "integer.safetensors"}) {
    const Outcome outcome = run_program(FAQ_EVAL, {"--weights", (output / file).string(), "--data-path",
                                                   images().string(), "--json", "--threads", "1"});
    require_done(outcome);
    CHECK(json::parse(outcome.out)["top1"] == best);
  }
}

TEST_CASE("the first stage alone is no integer network, but can be evaluated", "[trainer]") {
  const TemporaryFolder output;
  // Stopped within the first stage.
  Process process(FAQ_TRAIN,
                  training(output.path(), faq_options + Words{"--stages", "weights,both", "--epochs", "6"}));
  const bool in_time = process.wait_until([&] { return reached(output.path(), 12); });
  process.send(SIGTERM);
  const Outcome stopped = process.wait();
  REQUIRE(in_time);
  INFO(stopped.err);
  REQUIRE(stopped.code == 75);
  CHECK_FALSE(fs::exists(output / "integer.safetensors"));
  const std::string best = (output / "best.safetensors").string();
  const Words eval{"--weights", best, "--data-path", images().string(), "--json", "--threads", "1"};
  const Outcome outcome = run_program(FAQ_EVAL, eval);
  require_done(outcome);
  CHECK(json::parse(outcome.out)["kind"] == "checkpoint with quantized weights");
  const json progress = json::parse(read_safetensors_metadata(best).at("progress"));
  CHECK(json::parse(outcome.out)["top1"] == progress["best_top1"]);
  const Outcome compared = run_program(FAQ_EVAL, eval + Words{"--compare", best});
  require_done(compared);
  CHECK(json::parse(compared.out)["first_diverging_layer"] == "");
}

TEST_CASE("a teacher guides, and learns when it is to", "[trainer]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "fp32"));
  const std::string start = (folder / "fp32" / "best.safetensors").string();
  const auto teacher_of = [&](const fs::path& run) {
    std::vector<float> values;
    const NamedTensors file = read_safetensors(run / "last.safetensors");
    for (const auto& [name, tensor] : file.tensors) {
      if (!name.starts_with("teacher/") || name.starts_with("teacher/momentum/")) continue;
      const auto span = tensor.span<float>();
      values.insert(values.end(), span.begin(), span.end());
    }
    return values;
  };
  const auto run = [&](const char* name, const Words& more) {
    require_done(
        train_by_program(folder / name, faq_options + Words{"--weights", start, "--lr", "0.01"} + more));
    return folder / name;
  };
  const auto frozen = teacher_of(run("frozen", {"--distill", "frozen"}));
  const auto joint = teacher_of(run("joint", {"--distill", "joint"}));
  std::vector<float> original;
  for (const auto& [name, tensor] : read_safetensors(start).tensors) {
    const auto span = tensor.span<float>();
    original.insert(original.end(), span.begin(), span.end());
  }
  CHECK(frozen == original);
  CHECK(joint.size() == original.size());
  CHECK(joint != original);
  // The guidance does something; without weight it does nothing.
  run("plain", {});
  run("weightless", {"--distill", "frozen", "--distill-weight", "0"});
  const auto network = [&](const char* name) {
    return tensor_difference(folder / name / "best.safetensors", folder / "plain" / "best.safetensors");
  };
  CHECK_FALSE(network("frozen").empty());
  CHECK(network("weightless").empty());
  // A teacher sees pixels as it was trained on them: the same weights without that record teach something
  // else.
  require_done(train_by_program(folder / "tinted", {"--mean", "0.2,0.7,0.4", "--std", "0.1,0.4,0.2"}));
  NamedTensors bare = read_safetensors(folder / "tinted" / "best.safetensors");
  bare.metadata.clear();
  write_safetensors(folder / "bare.safetensors", bare);
  run("of-tinted", {"--distill", "frozen", "--teacher", (folder / "tinted" / "best.safetensors").string()});
  run("of-bare", {"--distill", "frozen", "--teacher", (folder / "bare.safetensors").string()});
  CHECK_FALSE(
      tensor_difference(folder / "of-tinted" / "best.safetensors", folder / "of-bare" / "best.safetensors")
          .empty());
  // A network of another kind may teach.
  require_done(train_by_program(folder / "deep", {"--model", "resnet32", "--epochs", "1"}));
  run("deeper", {"--distill", "frozen", "--teacher", (folder / "deep" / "best.safetensors").string()});

  struct Refused {
    const char* what;
    Words options;
    int code;
    const char* message;
  };
  const std::string quantized = (folder / "plain" / "best.safetensors").string();
  const Refused rows[] = {
      {"quantized", {"--distill", "frozen", "--teacher", quantized}, 65, "quantized (--scheme faq)"},
      {"not there", {"--distill", "frozen", "--teacher", "gone.safetensors"}, 66, "gone.safetensors"},
      {"another network",
       {"--distill", "joint", "--teacher", start, "--teacher-model", "resnet32"},
       65,
       "missing"},
      {"not used", {"--teacher", start}, 64, "--distill none"},
  };
  for (const Refused& row : rows) {
    INFO(row.what);
    const Outcome outcome =
        train_by_program(folder / "refused", faq_options + Words{"--weights", start} + row.options);
    INFO(outcome.err);
    CHECK(outcome.code == row.code);
    CHECK(outcome.err.find(row.message) != std::string::npos);
  }
  const Outcome nobody = train_by_program(folder / "refused", Words{"--distill", "frozen"});
  CHECK(nobody.code == 64);
  CHECK(nobody.err.find("names the teacher") != std::string::npos);
  // Of other classes.
  const TemporaryFolder data;
  write_data_set(data.path(), 60, 30);
  for (const char* split : {"train", "val"}) {
    fs::create_directories(data / split / "up");
    fs::copy(fixture("rgb.png"), data / split / "up");
  }
  const Outcome classes = train_by_program(
      folder / "refused", faq_options + Words{"--data-path", data.path().string(), "--distill", "frozen",
                                              "--teacher", start, "--val-resize-size", "20"});
  INFO(classes.err);
  CHECK(classes.code == 64);
  CHECK(classes.err.find("has 3 classes, the network 4") != std::string::npos);
}

TEST_CASE("a signal before the first step still ends with a checkpoint", "[trainer]") {
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
  CHECK(fs::exists(output / "checkpoint-1.safetensors"));
}

TEST_CASE("a run killed at any moment ends with the same bits", "[trainer]") {
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
  require_done(train_by_program(parts.path(), faq_options + Words{"--resume", "auto"}));
  check_same_run(parts.path(), whole.path(), 20);
}

TEST_CASE("config.json repeats a run", "[trainer]") {
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

TEST_CASE("what cannot be continued is refused", "[trainer]") {
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
  const Words resume{"--resume", "auto"};
  refused("no --resume", 64, "--resume auto", trained);
  refused("another model", 65, "model was \"resnet20\", is now \"resnet32\"",
          trained + resume + Words{"--model", "resnet32"});
  refused("other bits", 65, "weight-bits", trained + resume + Words{"--weight-bits", "8"});
  refused("not quantized", 65, "another run", Words{"--epochs", "1"} + resume);
  refused("another seed", 65, "seed was 3, is now 4", trained + resume + Words{"--seed", "4"});
  refused("a file that is not a checkpoint", 65, "not written by faq-train",
          trained + Words{"--resume", (run / "integer.safetensors").string()});
  refused("no such file", 66, "absent", trained + Words{"--resume", (run / "absent.safetensors").string()});
  // A phase the run does not have; and one that says nothing of options that came later.
  const NamedTensors good = read_safetensors(run / "last.safetensors");
  const auto damaged = [&](const char* key, const std::function<void(json&)>& change) {
    NamedTensors file = good;
    json text = json::parse(file.metadata.at(key));
    change(text);
    file.metadata[key] = text.dump();
    write_safetensors(run / "odd.safetensors", file);
    return trained + Words{"--resume", (run / "odd.safetensors").string()};
  };
  refused("no such phase", 65, "phase 3 of 1", damaged("progress", [](json& p) { p["phase"] = 3; }));
  refused("no phase", 65, "phase -1 of 1", damaged("progress", [](json& p) { p["phase"] = -1; }));
  const Outcome evaluated = run_program(FAQ_EVAL, {"--weights", (run / "odd.safetensors").string(),
                                                   "--data-path", images().string(), "--threads", "1"});
  CHECK(evaluated.code == 65);
  CHECK(evaluated.err.find("phase -1 of 1") != std::string::npos);
  require_done(train_by_program(run.path(), damaged("config", [](json& c) { c.erase("stages"); })));
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

TEST_CASE("no epochs: calibrated, quantized, and continued as often as one likes", "[trainer]") {
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

TEST_CASE("a run that diverges stops, and keeps what was good", "[trainer]") {
  const TemporaryFolder output;
  require_done(train_by_program(output.path(), {"--epochs", "1"}));
  const std::string good = file_bytes(output / "best.safetensors");
  const TemporaryFolder wild;
  // Weight decay times a rate of 1e6 multiplies weights by -99 a step: infinite after twenty.
  const Outcome outcome = train_by_program(
      wild.path(), {"--weights", (output / "best.safetensors").string(), "--lr", "1e6", "--epochs", "6",
                    "--weight-decay", "1e-3", "--checkpoint-interval", "1"});
  INFO(outcome.err);
  CHECK(outcome.code == 76);
  REQUIRE(!outcome.err.empty());
  const std::string line = lines_of(outcome.err).back();
  CHECK(line.find("diverged") != std::string::npos);
  const auto named = line.find("last good checkpoint: ");
  REQUIRE(named != std::string::npos);
  std::string file = line.substr(named + std::string("last good checkpoint: ").size());
  std::erase(file, '"');
  CHECK(fs::exists(file));
  // Nothing that was saved is beyond repair.
  int checkpoints = 0;
  for (const auto& entry : fs::directory_iterator(wild.path())) {
    if (entry.path().extension() != ".safetensors") continue;
    ++checkpoints;
    INFO(entry.path());
    for (const auto& [name, tensor] : read_safetensors(entry.path()).tensors) {
      INFO(name);
      CHECK(kernels::all_finite(tensor));
    }
  }
  CHECK(checkpoints > 0);
  // The very last step of a run: nobody computes another loss, the validation must see it.
  const TemporaryFolder last;
  const Outcome at_the_end =
      train_by_program(last.path(), {"--weights", (output / "best.safetensors").string(), "--lr", "1e6",
                                     "--epochs", "1", "--grad-accum-steps", "4", "--weight-decay", "1e6"});
  INFO(at_the_end.err);
  CHECK(at_the_end.code == 76);
  CHECK(!fs::exists(last / "last.safetensors"));
  CHECK(file_bytes(output / "best.safetensors") == good);
}
