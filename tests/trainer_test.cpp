#include "train/trainer.h"

#include <limits>

#include "core/kernels/elementwise.h"
#include "core/version.h"
#include "tests/run_testing.h"
#include "train/evaluate.h"
#include "train/metrics.h"
#include "train/option_table.h"
#include "train/quantized_training.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("names of folders need not be UTF-8, which JSON is", "[trainer]") {
  const TemporaryFolder folder;
  const fs::path output = folder / "caf\xe9";
  const Words once{"--epochs", "1", "--json"};
  require_done(train_by_program(output, once));
  const json config = json::parse(file_bytes(output / "config.json"));
  CHECK(config.at("output-dir") == (folder / "caf\xef\xbf\xbd").string());
  require_done(train_by_program(output, once + Words{"--resume", "auto"}));
  require_done(train_by_program(output, once + Words{"--dry-run"}));
}

TEST_CASE("batch-norm's statistics are taken anew before every evaluation", "[trainer]") {
  // Spoils what the running averages have become before the inner method takes them anew.
  class Spoiled final : public Method {
   public:
    explicit Spoiled(std::unique_ptr<Method> inner) : inner_(std::move(inner)) {}
    std::string begin_phase(Model& model, int phase, const BatchSource& batches) override {
      return inner_->begin_phase(model, phase, batches);
    }
    PrecisionPlan before_step(Model& model, double done, std::int64_t step) override {
      return inner_->before_step(model, done, step);
    }
    void end_epoch(Model& model, const BatchSource& batches) override {
      ++epochs;
      for (Named<Tensor>& buffer : buffers(model))
        if (buffer.name.find("running_") != std::string::npos)
          std::ranges::fill(buffer.value.mutable_span<float>(), 7.0f);
      inner_->end_epoch(model, batches);
    }
    fs::path deploy(Model& model, const Deployment& deployment) override {
      return inner_->deploy(model, deployment);
    }
    bool quantizes() const override { return inner_->quantizes(); }
    int epochs = 0;

   private:
    std::unique_ptr<Method> inner_;
  };

  const TemporaryFolder plain, spoiled;
  require_done(train_by_program(plain.path(), faq_options + Words{"--batch-norm-batches", "3"}));
  const json config = json::parse(file_bytes(plain / "config.json"));
  const TrainOptions options = assemble(config, {{"output-dir", spoiled.path().string()}});
  Spoiled method(make_method(options));
  Metrics metrics;
  const TrainResult result = train(options, method, {.listeners = {&metrics}});
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
    const json about = json::parse(file_bytes(output / "run.json"));
    CHECK(about.at("version") == version());
    CHECK(about.at("revision") == revision());
    for (const char* name : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
      if (!fs::exists(output / name)) continue;
      INFO(name);
      const auto metadata = read_safetensors_metadata(output / name);
      CHECK(metadata.at("version") == version());
      CHECK(metadata.at("revision") == revision());
    }
    for (const auto& entry : fs::directory_iterator(output.path()))
      CHECK(entry.path().string().find(".tmp.") == std::string::npos);
  }
}

TEST_CASE("training multiplies the format it is given, evaluation f32", "[trainer]") {
  const TemporaryFolder folder;
  const Words floats{"--epochs", "1", "--lr", "0.001"};
  if (!has_native_bf16()) {
    const Outcome refused = train_by_program(folder / "bf16", floats + Words{"--float-dtype", "bf16"});
    CHECK(refused.code == 64);
    CHECK(refused.err.find("no native bf16") != std::string::npos);
    return;
  }
  const auto evaluations = [&](const char* dtype) {
    require_done(train_by_program(folder / dtype, floats + Words{"--float-dtype", dtype}));
    std::vector<json> lines = metrics(folder / dtype);
    std::erase_if(lines, [](const json& line) { return !line.contains("top1"); });
    REQUIRE(lines.size() == 2);
    return lines;
  };
  const auto f32 = evaluations("f32"), bf16 = evaluations("bf16");
  CHECK(f32[0]["val_loss"] == bf16[0]["val_loss"]);
  CHECK(f32[1]["train_loss"] != bf16[1]["train_loss"]);
  CHECK(bf16[1]["train_loss"].get<double>() == Approx(f32[1]["train_loss"].get<double>()).epsilon(0.05));
  const Outcome evaluated =
      run_program(FAQ_EVAL, {"--weights", (folder / "bf16" / "last.safetensors").string(), "--data-path",
                             images().string(), "--threads", "1", "--json"});
  require_done(evaluated);
  CHECK(json::parse(evaluated.out)["loss"] == bf16[1]["val_loss"]);
}

TEST_CASE("what was trained with bf16 is evaluated, exported and shown on a CPU without it", "[trainer]") {
  if (!has_native_bf16()) return;
  const TemporaryFolder folder;
  const fs::path floats = folder / "floats", integers = folder / "integers";
  const Words bf16{"--epochs", "1", "--grad-dtype", "bf16", "--float-dtype", "bf16"};
  require_done(train_by_program(floats, bf16));
  require_done(train_by_program(integers, bf16 + faq_options + Words{"--distill", "joint"}));
  const auto evaluation = [](const fs::path& run) {
    return Words{
        "--weights", (run / "last.safetensors").string(), "--data-path", images().string(), "--threads", "1"};
  };
  const std::string here = std::getenv("ONEDNN_MAX_CPU_ISA") ? std::getenv("ONEDNN_MAX_CPU_ISA") : "ALL";
  ::setenv("ONEDNN_MAX_CPU_ISA", "AVX2", 1);
  const Outcome of_floats = run_program(FAQ_EVAL, evaluation(floats)),
                of_integers = run_program(FAQ_EVAL, evaluation(integers)),
                exported = run_program(FAQ_EVAL, {"--weights", (integers / "last.safetensors").string(),
                                                  "--export", (folder / "exported.safetensors").string()}),
                shown = run_program(FAQ_REPORT, {integers.string()}),
                trained = train_by_program(folder / "again", bf16);
  ::setenv("ONEDNN_MAX_CPU_ISA", here.c_str(), 1);
  require_done(of_floats);
  require_done(of_integers);
  require_done(exported);
  require_done(shown);
  CHECK(trained.code == 64);
  CHECK(trained.err.find("no native bf16") != std::string::npos);
  CHECK(tensor_difference(folder / "exported.safetensors", integers / "integer.safetensors").empty());
}

TEST_CASE("phases have their own schedule, momentum and best network", "[trainer]") {
  const TemporaryFolder output;
  // Four phases of nine epochs: 0–1, 1–4, 4–6, 6–9.
  require_done(train_by_program(
      output.path(), {"--scheme", "faq", "--bits-schedule", "8,6,4", "--stages", "weights,both", "--epochs",
                      "9", "--phase-epochs", "1,3,2,3", "--lr-scheduler", "cosine"}));
  std::vector<double> rates;
  for (const json& line : metrics(output.path()))
    if (!line.contains("top1")) rates.push_back(line.at("lr"));
  REQUIRE(rates.size() == 90);
  for (std::size_t step = 0; step < 90; ++step) {
    INFO("step " << step);
    const bool restarts = step == 0 || step == 10 || step == 40 || step == 60;
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
  const Outcome again = train_by_program(output / "again", {"--weights", best, "--epochs", "0"});
  require_done(again);
  CHECK(again.err.find("warning: " + best + " is quantized (scheme faq)") != std::string::npos);
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
  CHECK(outcome.err.find("warning") == std::string::npos);
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

TEST_CASE("a step trains the network its precision plan says", "[trainer]") {
  const auto first_loss = [](const Words& more) {
    const TemporaryFolder run;
    require_done(train_by_program(run.path(), faq_options + Words{"--epochs", "1"} + more));
    for (const json& line : metrics(run.path()))
      if (!line.contains("top1")) return line.at("train_loss").get<double>();
    return -1.0;
  };
  // From probability 0 on, every unit of the first step is in full precision; from 1 on, none.
  const double quantized = first_loss({});
  CHECK(first_loss({"--stochastic-precision=1"}) == quantized);
  CHECK(first_loss({"--stochastic-precision=0"}) != quantized);
}
