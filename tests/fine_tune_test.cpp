// The main job as a value: what faq-train does, from C++.
#include "train/fine_tune.h"

#include "tests/run_testing.h"
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
