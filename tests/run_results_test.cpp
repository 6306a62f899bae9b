// What a run remembers of its data, and leaves when something is wrong with them.
#include <map>

#include "nn/models.h"
#include "quant/lost_filters.h"
#include "quant/quantize.h"
#include "tests/run_testing.h"
#include "train/image_sample.h"
#include "train/setup.h"

using namespace faq;
using namespace faq::testing;

namespace {

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

// A run of `data` that was stopped in its first epoch.
void stopped_run(const fs::path& output, const Words& options) {
  Process process(FAQ_TRAIN, training(output, options));
  const bool in_time = process.wait_until([&] { return reached(output, 1); });
  process.send(SIGTERM);
  const Outcome outcome = process.wait();
  INFO(outcome.err);
  REQUIRE(outcome.code == 75);
  REQUIRE(in_time);
}

}  // namespace

TEST_CASE("a run goes on with the classes and the pixels it began with", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 600, 30);
  const Words options{"--data-path", (folder / "data").string(), "--scheme", "none"};
  stopped_run(folder / "run", options);
  const Words again = options + Words{"--resume", "auto"};

  // The same files under classes in another order.
  for (const char* split : {"train", "val"})
    fs::rename(folder / "data" / split / "across", folder / "data" / split / "zebra");
  const Outcome renamed = train_by_program(folder / "run", again);
  INFO(renamed.err);
  CHECK(renamed.code == 65);
  CHECK(has(renamed.err, "other classes"));
  CHECK(has(renamed.err, "class 0 was \"across\", is now \"down\""));
  for (const char* split : {"train", "val"})
    fs::rename(folder / "data" / split / "zebra", folder / "data" / split / "across");

  // Other pictures under the same names.
  const TemporaryFolder kept;
  fs::copy(folder / "data", kept / "data", fs::copy_options::recursive);
  std::string other;
  for (const auto& entry : fs::recursive_directory_iterator(folder / "data" / "train")) {
    if (!entry.is_regular_file()) continue;
    if (other.empty()) other = file_bytes(entry.path());
    write_file(entry.path(), other);
  }
  const Outcome overwritten = train_by_program(folder / "run", again);
  INFO(overwritten.err);
  CHECK(overwritten.code == 65);
  CHECK(has(overwritten.err, "contents for training"));

  fs::remove_all(folder / "data");
  fs::copy(kept / "data", folder / "data", fs::copy_options::recursive);  // other times, the same data
  require_done(train_by_program(folder / "run", again));
}

TEST_CASE("an image that cannot be read ends a run after saving", "[resume]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 200, 30);
  const Words options{"--data-path", (folder / "data").string(), "--scheme", "none", "-b", "20"};
  // Not among the first batches of the first epoch: the run has trained something when it meets it.
  TrainOptions o;
  o.data_path = (folder / "data").string();
  o.seed = 3;
  const Data data = open_data(o, true);
  const std::int64_t late = data.train->shuffled(3, 0)[150];
  write_file(data.train->name(late), "no image");
  const Outcome outcome = train_by_program(folder / "run", options);
  INFO(outcome.err);
  CHECK(outcome.code == 65);
  for (const char* part : {"expected a JPEG or PNG image", "--skip-bad N", "--resume auto", "checkpoint-"})
    CHECK(has(outcome.err, part));
  const Outcome still = train_by_program(folder / "run", options + Words{"--resume", "auto"});
  INFO(still.err);
  CHECK(still.code == 65);
  const Outcome rest =
      train_by_program(folder / "run", options + Words{"--resume", "auto", "--skip-bad", "1", "--quiet"});
  require_done(rest);
  CHECK(has(rest.err, "warning: skipped"));  // also when quiet
  // What an earlier part of the run has skipped counts.
  const Outcome more = train_by_program(
      folder / "run",
      options + Words{"--epochs", "3", "--lr-scheduler", "constant", "--resume", "auto", "--skip-bad", "1"});
  require_done(more);
  CHECK(metrics(folder / "run").back().at("skipped") == 1);
  const TemporaryFolder whole;
  require_done(train_by_program(whole.path(), options + Words{"--skip-bad", "1"}));
  CHECK(tensor_difference(folder / "run" / "last.safetensors", whole / "last.safetensors").empty());
}

TEST_CASE("the results that a run names are there and whole when it ends", "[resume]") {
  const TemporaryFolder whole;
  require_done(train_by_program(whole.path(), faq_options + Words{"--epochs", "1"}));
  const auto damage = [](const fs::path& file) {
    std::string bytes = file_bytes(file);
    bytes[bytes.size() - 5] ^= 4;
    write_file(file, bytes);
  };
  for (const char* name : {"best.safetensors", "integer.safetensors"})
    for (const bool removed : {true, false}) {
      CAPTURE(name, removed);
      const TemporaryFolder folder;
      fs::copy(whole.path(), folder / "run", fs::copy_options::recursive);
      const auto again = [&] {
        return train_by_program(folder / "run", faq_options + Words{"--epochs", "1", "--resume", "auto"});
      };
      require_done(again());
      if (removed)
        fs::remove(folder / "run" / name);
      else
        damage(folder / "run" / name);
      const Outcome outcome = again();
      INFO(outcome.err);
      CHECK(outcome.code == 74);
      CHECK(has(outcome.err, name));
      CHECK(outcome.out.empty());
    }
}

TEST_CASE("no line of metrics.jsonl comes twice", "[resume]") {
  const TemporaryFolder folder;
  require_done(train_by_program(folder / "run", {"--scheme", "none", "--epochs", "1"}));
  // As when the run was killed between writing the line of an epoch and saving it: the checkpoint is of the
  // same step, and the epoch is not in it.
  NamedTensors last = read_safetensors(folder / "run" / "last.safetensors");
  json progress = json::parse(last.metadata.at("progress"));
  REQUIRE(progress["epoch"] == 1);
  progress["epoch"] = 0;
  progress["step_in_epoch"] = progress["step"];
  progress["history"].erase(1);
  progress["images"] = 200;
  last.metadata["progress"] = progress.dump();
  write_safetensors(folder / "run" / "last.safetensors", last);
  require_done(train_by_program(folder / "run", {"--scheme", "none", "--epochs", "1", "--resume", "auto"}));
  CHECK(epochs_of(folder / "run") == std::vector{0, 1});
  CHECK(steps_of(folder / "run") == count_to(1, 10));
}

TEST_CASE("what is done to images is said", "[setup]") {
  struct Row {
    ImageSample sample;
    Augmentation augment;
    int crop, resize;
    const char* text;
  };
  const ImageSample same{.images = 4,
                         .checksum = 0,
                         .smallest_height = 32,
                         .smallest_width = 32,
                         .largest_height = 32,
                         .largest_width = 32};
  ImageSample mixed = same;
  mixed.smallest_height = mixed.smallest_width = 28;
  mixed.largest_height = 200;
  mixed.largest_width = 300;
  const Row rows[] = {
      {same, Augmentation::cifar, 32, 32,
       "images: 32×32; training: padded by 4, a random crop of 32×32, flipped at random; evaluation: the "
       "middle "
       "32×32"},
      {mixed, Augmentation::cifar, 32, 32,
       "images: 28×28 to 300×200; training: resized to 32×32, padded by 4, a random crop of 32×32, flipped "
       "at "
       "random; evaluation: shorter side resized to 32 (smaller images are enlarged), the middle 32×32"},
      {mixed, Augmentation::imagenet, 224, 256,
       "images: 28×28 to 300×200; training: a random part resized to 224×224, flipped at random; evaluation: "
       "shorter side resized to 256 (smaller images are enlarged), the middle 224×224"},
      {mixed, Augmentation::none, 32, 0,
       "images: 28×28 to 300×200; training: as in evaluation; evaluation: the middle 32×32, smaller ones "
       "padded "
       "with black"},
      {{},
       Augmentation::none,
       32,
       32,
       "images: training: as in evaluation; evaluation: shorter side resized to 32"},
  };
  for (const Row& row : rows) {
    DataChoice options;
    options.augment = row.augment;
    options.train_crop_size = options.val_crop_size = row.crop;
    options.val_resize_size = row.resize;
    CHECK(has(text_of_preprocessing(row.sample, options, true), row.text));
  }
  const std::string text = text_of_preprocessing(same, {}, false);
  CHECK_FALSE(has(text, "training"));
}

TEST_CASE("filters that a scheme without a zero turns into noise are found", "[quant]") {
  struct Row {
    Scheme scheme;
    bool found;
  };
  for (const Row& row : {Row{Scheme::faq, false}, Row{Scheme::dorefa, true}}) {
    auto model = make_model("resnet20", {10, 3, {}, {}});
    initialize(*model, 1);
    for_each_unit(*model, [](const std::string& name, Unit& unit) {
      if (name != "layer1.0.conv1") return;
      const auto weights = unit.weights()->mutable_value().mutable_span<float>();
      std::fill(weights.begin(), weights.begin() + 3 * 16 * 9, 0.0f);  // three filters
    });
    int left = 1;
    const Batches batches = [&]() -> std::optional<Tensor> {
      if (left-- == 0) return {};
      Tensor pixels = Tensor::empty({4, 32, 32, 3}, DType::u8);
      for (std::int64_t i = 0; i < pixels.numel(); ++i)
        pixels.mutable_data<std::uint8_t>()[i] = static_cast<std::uint8_t>(i * 37 % 251);
      return pixels;
    };
    const CalibrationResult calibration = calibrate(*model, batches);
    quantize(*model, {.scheme = row.scheme, .weight_bits = 4, .act_bits = 4}, &calibration);
    const auto lost = lost_filters(*model);
    REQUIRE(lost.size() == (row.found ? 1 : 0));
    if (!row.found) continue;
    CHECK(lost[0].layer == "layer1.0.conv1");
    CHECK(lost[0].lost == 3);
    CHECK(lost[0].filters == 16);
  }
}
