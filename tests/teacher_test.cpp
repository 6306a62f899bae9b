#include "train/teacher.h"

#include <cmath>

#include "tests/run_testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a teacher guides, and learns when it is to", "[teacher]") {
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
  // What it adds to the loss is told: without it, the first step's loss is that of the run without weight.
  const auto first_step = [&](const char* name) { return metrics(folder / name).at(1); };
  const json guided = first_step("frozen"), weightless = first_step("weightless");
  REQUIRE(guided.at("step") == 1);
  CHECK(guided.at("train_divergence").get<double>() > 0);
  CHECK(weightless.at("train_divergence") == 0);
  CHECK(guided.at("train_loss").get<double>() - guided.at("train_divergence").get<double>() ==
        Approx(weightless.at("train_loss").get<double>()).epsilon(1e-6));
  CHECK_FALSE(first_step("plain").contains("train_divergence"));
  CHECK(metrics(folder / "joint").back().at("train_divergence").get<double>() > 0);
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
      {"quantized", {"--distill", "frozen", "--teacher", quantized}, 65, "quantized (scheme faq)"},
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
  const Outcome channels =
      train_by_program(folder / "refused",
                       faq_options + Words{"--in-channels", "1", "--distill", "frozen", "--teacher", start});
  INFO(channels.err);
  CHECK(channels.code == 64);
  CHECK(channels.err.find(start + ": has 3 input channel(s), the network 1") != std::string::npos);
}

TEST_CASE("a teacher multiplies bf16 when layers in floating point do", "[teacher]") {
  if (!has_native_bf16()) return;
  Batch batch;
  batch.images = Tensor::empty({4, 16, 16, 3}, DType::u8);
  for (int i = 0; std::uint8_t & pixel : batch.images.mutable_span<std::uint8_t>())
    pixel = static_cast<std::uint8_t>(37 * ++i);
  batch.labels = {0, 2, 1, 0};
  batch.samples = {0, 1, 2, 3};
  const Var logits(Tensor::zeros({4, 3}));
  const RandomKeys keys{.seed = 0, .epoch = 0, .samples = batch.samples};
  for (const Distill how : {Distill::joint, Distill::frozen}) {
    const auto guidance = [&](DType dtype) {
      TrainOptions options;
      options.num_classes = 3;
      options.in_channels = 3;
      options.distill = Distill::joint;
      Teacher random = Teacher::begin(options);
      NamedTensors saved;
      random.export_state(saved);
      options.distill = how;
      options.float_dtype = dtype;
      Teacher teacher = Teacher::resume(options, saved, "a test", single_process());
      teacher.begin_step({.begin = 0, .end = 1, .present = 1, .images = 4});
      const double value = teacher.guidance(logits, batch, keys, 1).value().item();
      teacher.finish_step();
      return value;
    };
    const double f32 = guidance(DType::f32), bf16 = guidance(DType::bf16);
    INFO((how == Distill::joint ? "joint: " : "frozen: ") << f32 << ", " << bf16);
    CHECK(f32 == guidance(DType::f32));
    CHECK(bf16 != f32);
    CHECK(std::abs(bf16 - f32) < 0.02 * f32);
  }
}

TEST_CASE("a phase begins without the teacher's momentum of the one before", "[teacher]") {
  TrainOptions options;
  options.num_classes = 3;
  options.in_channels = 3;
  options.distill = Distill::joint;
  Teacher teacher = Teacher::begin(options);
  const auto momentum = [&] {
    NamedTensors state;
    teacher.export_state(state);
    double sum = 0;
    for (const auto& [name, tensor] : state.tensors) {
      if (!name.starts_with("teacher/momentum/")) continue;
      for (const float v : tensor.span<float>()) sum += std::abs(v);
    }
    return sum;
  };
  CHECK(momentum() == 0);
  Batch batch;
  batch.images = Tensor::zeros({2, 16, 16, 3}, DType::u8);
  batch.labels = {0, 2};
  batch.samples = {0, 1};
  const Var logits(Tensor::zeros({2, 3}));
  const RandomKeys keys{.seed = 0, .epoch = 0, .samples = batch.samples};
  teacher.begin_step({.begin = 0, .end = 1, .present = 1, .images = 2});
  CHECK(teacher.guidance(logits, batch, keys, 1).value().item() >= 0);
  teacher.finish_step();
  teacher.step(0.1, 1);
  CHECK(momentum() > 0);
  teacher.restart();
  CHECK(momentum() == 0);
}
