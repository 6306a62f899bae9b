// The main job as a value: what faq-train does, from C++.
#include "train/fine_tune.h"

#include "data/memory_dataset.h"
#include "tests/run_testing.h"
#include "train/evaluate.h"
#include "train/open_network.h"
#include "train/quantized_training.h"
#include "train/trainer.h"

using namespace faq;
using namespace faq::testing;

namespace {

FineTune job(const fs::path& output) {
  FineTune job{.model = {.model = "resnet20"},
               .data = {.data_path = images().string(), .workers = 1},
               .recipe = {},
               .output = {.output_dir = output.string(), .threads = 1, .print_freq = 1}};
  job.recipe.scheme = Scheme::faq;
  job.recipe.weight_bits = job.recipe.act_bits = 4;
  job.recipe.calibration_batches = 2;
  job.recipe.epochs = 2;
  job.recipe.batch_size = 20;
  job.recipe.lr = 0.01;
  job.recipe.seed = 3;
  return job;
}

}  // namespace

TEST_CASE("FineTune is faq-train: the same bits, the same record", "[fine_tune]") {
  const OneThread one_thread;
  const TemporaryFolder by_library, by_program;
  const TrainResult result = job(by_library.path()).run();
  CHECK(result.epochs == 2);
  require_done(train_by_program(by_program.path(), faq_options));
  check_same_run(by_library.path(), by_program.path(), 20);
  // What the machine decides is written down too.
  const auto config = [](const TemporaryFolder& run) {
    json all = json::parse(file_bytes(run / "config.json"));
    all.erase("output-dir");
    return all;
  };
  CHECK(config(by_library) == config(by_program));
  CHECK(config(by_library)["grad-dtype"] != "");
}

TEST_CASE("a run does what its recipe says, or is refused", "[fine_tune]") {
  const TemporaryFolder folder;
  TrainOptions quantized = job(folder / "run").options(), in_float = quantized;
  in_float.scheme = Scheme::none;
  Method floating_point;
  const auto quantizing = make_method(quantized);
  check_error(ErrorKind::usage, "trains in floating point", [&] { train(quantized, floating_point, {}); });
  check_error(ErrorKind::usage, "quantizes", [&] { train(in_float, *quantizing, {}); });
  quantized.batch_size = 0;
  check_error(ErrorKind::usage, "`batch_size` 0", [&] { train(quantized); });
  CHECK_FALSE(fs::exists(folder / "run"));
}

namespace {

class TwoConvolutions final : public Model {
 public:
  explicit TwoConvolutions(const ModelOptions& options)
      : input_(options.mean, options.std),
        conv1_(options.in_channels, 8, 3, {.padding = 1}),
        conv2_(8, 16, 3, {.stride = 2, .padding = 1}),
        head_(16, options.num_classes) {}
  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv1", "bn1", conv1_);
    v.child("conv2", "bn2", conv2_);
    v.child("pool", pool_);
    v.child("head", head_);
  }
  Var forward(const Pass& pass, const Var& images) override {
    return head_(pass, pool_(pass, conv2_(pass, conv1_(pass, input_(pass, images)))));
  }

 private:
  Input input_;
  ConvNormAct conv1_, conv2_;
  GlobalAvgPool pool_;
  Linear head_;
};

ModelInfo two_convolutions() {
  return {.name = "two_convolutions",
          .family = "mine",
          .input_size = 8,
          .num_classes = 2,
          .classifiers = {"head"}};
}

// Grey images that are bright above or below.
std::unique_ptr<Dataset> own_split(Split split) {
  const int count = split == Split::train ? 64 : 32;
  MemoryImages images{.height = 8,
                      .width = 8,
                      .channels = 1,
                      .pixels = std::vector<std::uint8_t>(static_cast<std::size_t>(count * 64)),
                      .labels = {},
                      .class_names = {"above", "below"},
                      .source = "drawn"};
  for (int n = 0; n < count; ++n) {
    images.labels.push_back(n % 2);
    for (int i = 0; i < 32; ++i)
      images.pixels[static_cast<std::size_t>(n * 64 + n % 2 * 32 + i)] =
          static_cast<std::uint8_t>(100 + (7 * n + i) % 100);
  }
  return memory_dataset(std::move(images), 1);
}

struct Warnings final : RunListener {
  void warning(const std::string& more) override { text += more + '\n'; }
  std::string text;
};

class StopAfterFiveSteps final : public RunListener {
 public:
  explicit StopAfterFiveSteps(StopToken stop) : stop_(std::move(stop)) {}
  void step(const StepDone& done) override {
    if (done.step == 5) stop_.request_stop();
  }

 private:
  StopToken stop_;
};

}  // namespace

TEST_CASE("the training loop takes networks and data of one's own", "[fine_tune]") {
  const OneThread one_thread;
  const TemporaryFolder folder;
  const auto make = [](const ModelOptions& options) { return std::make_unique<TwoConvolutions>(options); };
  const std::size_t before = list_models().size();
  register_model(two_convolutions(), make);
  CHECK(list_models().size() == before + 1);
  check_error(ErrorKind::usage, "the zoo has a 'two_convolutions'",
              [&] { register_model(two_convolutions(), make); });
  ModelInfo other = two_convolutions();
  other.name = "resnet20";
  check_error(ErrorKind::usage, "the zoo has a 'resnet20'", [&] { register_model(other, make); });
  other.name = "";
  check_error(ErrorKind::usage, "expected a name", [&] { register_model(other, make); });

  FineTune mine = job(folder / "run");
  mine.model.model = "two_convolutions";
  mine.data.data_path = "";
  mine.recipe.lr = 0.05;
  mine.recipe.epochs = 6;
  check_error(ErrorKind::usage, "`data_path` is required", [&] { mine.run(); });
  const RunContext context{.open_split = own_split};
  const TrainResult result = mine.run(context);
  CHECK(result.best.top1 == 100);

  // Both networks of the run are opened by name, and are as accurate.
  const auto validation = own_split(Split::val);
  Loader loader(*validation, {.batch_size = 8, .training = false, .transform = {Augmentation::none, 8, 8}});
  for (const char* file : {"best.safetensors", "integer.safetensors"}) {
    CAPTURE(file);
    const Network network = open_network({.weights = (folder / "run" / file).string()});
    CHECK(network.model == "two_convolutions");
    Scores scores;
    RunListener silent;
    CHECK(evaluate(network.forward, loader, scores, silent).top1 == 100);
  }
  // A run that was cut short goes on with the same bits.
  FineTune part = mine;
  part.output.output_dir = (folder / "part").string();
  const StopToken stop;
  StopAfterFiveSteps stopping(stop);
  const TrainResult cut = part.run({.listeners = {&stopping}, .stop = stop, .open_split = own_split});
  CHECK(cut.stopped);
  part.output.resume = "auto";
  CHECK_FALSE(part.run(context).stopped);
  for (const char* file : {"last.safetensors", "best.safetensors", "integer.safetensors"}) {
    CAPTURE(file);
    CHECK(tensor_difference(folder / "part" / file, folder / "run" / file).empty());
  }

  // Batches that are odd for so many images.
  const std::pair<int, const char*> odd[] = {
      {24, "each epoch leaves out 16 of 64 images, which are no whole batch of 24"},
      {8, "batches of 8 images: batch-norm wants 16 or more"},
      {16, ""},
      {100, ""}};
  for (const auto& [batch, expected] : odd) {
    CAPTURE(batch);
    FineTune one = mine;
    one.output.output_dir = (folder / concat("b", batch)).string();
    one.recipe.batch_size = batch;
    one.recipe.epochs = 1;
    Warnings heard;
    one.run({.listeners = {&heard}, .open_split = own_split});
    const bool is_heard = heard.text.find("each epoch leaves out") != std::string::npos ||
                          heard.text.find("batch-norm wants") != std::string::npos;
    CHECK(is_heard == (*expected != 0));
    CHECK(heard.text.find(expected) != std::string::npos);
  }

  unregister_model("two_convolutions");
  unregister_model("resnet20");  // not registered, so it stays
  CHECK(list_models().size() == before);
  check_error(ErrorKind::usage, "unknown model 'two_convolutions'", [&] { model_info("two_convolutions"); });
}

TEST_CASE("a preset sets its fields and leaves the others", "[fine_tune]") {
  Recipe r;
  r.seed = 7;
  r.lr = 5;
  preset("faq-4bit").apply(r);
  CHECK(r.scheme == Scheme::faq);
  CHECK(r.weight_bits == 4);
  CHECK(r.lr == 0.0015);
  CHECK(r.seed == 7);
  CHECK(recipe("faq-8bit").weight_bits == 8);
  check_error(ErrorKind::usage, "did you mean 'fp32'", [] { recipe("fp23"); });
}
