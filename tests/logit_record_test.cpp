#include "train/logit_record.h"

#include "data/transforms.h"
#include "quant/deploy/integer_network.h"
#include "tests/programs.h"
#include "tests/run_testing.h"
#include "tests/tar_writer.h"
#include "train/scores.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

namespace {

Words evaluation(const fs::path& data, const fs::path& logits) {
  return {"--weights",   (finished_run("faq") / "integer.safetensors").string(),
          "--data-path", data.string(),
          "--logits",    logits.string(),
          "-b",          "7"};
}

std::vector<std::string> names_in(const NamedTensors& file) {
  const auto bytes = file.find("images")->span<std::uint8_t>();
  std::vector<std::string> names = split(std::string(bytes.begin(), bytes.end()), '\0');
  names.pop_back();  // behind the last zero
  return names;
}

}  // namespace

TEST_CASE("the logits of an evaluation are those of the network, in the order of the data", "[logits]") {
  const TemporaryFolder folder;
  const json result = result_of(evaluation(tiny_images(), folder / "logits.safetensors"));
  const NamedTensors file = read_safetensors(folder / "logits.safetensors");
  CHECK(file.has_checksums);
  REQUIRE(file.tensors.size() == 4);
  const Tensor &logits = *file.find("logits"), &labels = *file.find("labels"),
               &samples = *file.find("samples");
  REQUIRE(logits.shape() == Shape{30, 3});
  REQUIRE(labels.shape() == Shape{30});
  CHECK(json::parse(file.metadata.at("classes")) == json({"across", "down", "slanted"}));
  const std::vector<std::string> names = names_in(file);
  REQUIRE(names.size() == 30);

  Scores scores;
  scores.add(logits, labels.span<std::int32_t>());
  const Evaluation again = scores.result();
  CHECK(result["images"] == again.images);
  CHECK(result["top1"] == again.top1);
  CHECK(result["loss"] == again.loss);

  const IntegerNetwork network = IntegerNetwork::load(finished_run("faq") / "integer.safetensors");
  const auto data = open_dataset({.path = tiny_images().string()}, Split::val);
  for (std::int64_t i = 0; i < 30; ++i) {
    INFO("image " << i);
    CHECK(samples.span<std::int32_t>()[i] == i);
    CHECK(labels.span<std::int32_t>()[i] == data->label(i));
    CHECK(names[static_cast<std::size_t>(i)] == data->relative_name(i));
    const Image image = transform_for_evaluation(data->image(i), {Augmentation::none, 16, 20});
    const Tensor own = network.forward(
        Tensor::from<std::uint8_t>({1, image.height, image.width, image.channels}, image.pixels));
    CHECK(reference::same_bytes(own.reshaped({3}), logits.rows(i, i + 1).reshaped({3})));
  }
}

TEST_CASE("images that are skipped have no logits", "[logits]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 9, 9);
  write_file(folder / "data" / "val" / "across" / "0000.png", "no picture");
  const json result =
      result_of(evaluation(folder / "data", folder / "some.safetensors") + Words{"--skip-bad", "1"});
  CHECK(result["skipped"] == 1);
  const NamedTensors file = read_safetensors(folder / "some.safetensors");
  CHECK(file.find("logits")->shape() == Shape{9, 3});
  std::vector<std::int32_t> expected(9);
  for (int i = 0; i < 9; ++i) expected[static_cast<std::size_t>(i)] = i + 1;
  const auto samples = file.find("samples")->span<std::int32_t>();
  CHECK(std::vector(samples.begin(), samples.end()) == expected);
  CHECK(names_in(file).size() == 9);
  // More than may be skipped: nothing is written.
  const Outcome refused = run_program(FAQ_EVAL, evaluation(folder / "data", folder / "none.safetensors"));
  CHECK(refused.code == 65);
  CHECK(refused.err.find("0000.png") != std::string::npos);
  CHECK_FALSE(fs::exists(folder / "none.safetensors"));
}

TEST_CASE("an evaluation ends before it begins when its logits cannot be kept", "[logits]") {
  const TemporaryFolder folder;
  write_data_set(folder / "data", 9, 9);
  const fs::path image = folder / "data" / "val" / "across" / "0000.png";
  write_file(image, "no picture");  // so no evaluation comes to its end
  const fs::path network = finished_run("faq") / "integer.safetensors";
  const std::string bytes = file_bytes(network);
  struct Row {
    fs::path file;
    int code;
    const char* message;
  };
  for (const Row& row : {Row{folder / "gone" / "logits.safetensors", 74, "gone"},
                         Row{image, 64, "is there and is none"}, Row{network, 64, "is there and is none"},
                         Row{finished_run("faq") / "last.safetensors", 64, "is there and is none"}}) {
    INFO(row.file);
    const Outcome outcome = run_program(FAQ_EVAL, evaluation(folder / "data", row.file));
    CHECK(outcome.code == row.code);
    CHECK(outcome.err.find(row.file.string()) != std::string::npos);
    CHECK(outcome.err.find(row.message) != std::string::npos);
  }
  CHECK(file_bytes(network) == bytes);
  CHECK(file_bytes(image) == "no picture");
  // A record is replaced.
  const fs::path record = folder / "logits.safetensors";
  result_of(evaluation(tiny_images(), record));
  const std::string first = file_bytes(record);
  result_of(evaluation(tiny_images(), record));
  CHECK(file_bytes(record) == first);
  check_refused({"two at a time", FAQ_EVAL, evaluation(tiny_images(), record) + Words{"--confusion"}, 64,
                 "one at a time"});
}

TEST_CASE("the columns of logits have the network's names of classes, whatever the data call them",
          "[logits]") {
  const TemporaryFolder folder;
  std::vector<TarEntry> entries;
  for (int i = 0; i < 6; ++i) {
    entries.push_back({concat(100 + i, ".png"), png(pattern(i % 3, 16, static_cast<std::uint64_t>(i)))});
    entries.push_back({concat(100 + i, ".cls"), std::to_string(i % 3)});
  }
  write_file(folder / "data" / "val" / "0.tar", tar(entries));
  result_of(evaluation(folder / "data", folder / "logits.safetensors"));
  const NamedTensors file = read_safetensors(folder / "logits.safetensors");
  CHECK(json::parse(file.metadata.at("classes")) == json({"across", "down", "slanted"}));
  CHECK(names_in(file).size() == 6);
}

TEST_CASE("a record holds batches of one network", "[logits]") {
  LogitRecord record(3);
  const Batch batch{.images = {}, .labels = {1, 0}, .samples = {4, 2}};
  record.add(batch, Tensor::from({2, 2}, {1, 2, 3, 4}));
  check_error(ErrorKind::usage, "2 images after 2 of 3", [&] { record.add(batch, Tensor::zeros({2, 3})); });
  check_error(ErrorKind::usage, "2 images after 2 of 3", [&] { record.add(batch, Tensor::zeros({1, 2})); });
  check_error(ErrorKind::usage, "2 images after 2 of 3", [&] { record.add(batch, Tensor::zeros({2, 2})); });
}
