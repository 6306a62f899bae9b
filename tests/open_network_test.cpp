// Networks, however they are stored, from C++: what faq-eval does.
#include "train/open_network.h"

#include "core/safetensors.h"
#include "tests/programs.h"
#include "train/evaluate.h"
#include "train/evaluation_data.h"
#include "train/gradient_noise.h"
#include "train/predict.h"
#include "train/variants.h"
#include "train/weight_analyses.h"

using namespace faq;
using namespace faq::testing;

namespace {

RunListener silent;

// The network of a checkpoint without what names it.
fs::path plain_weights(const TemporaryFolder& folder) {
  NamedTensors contents = read_safetensors((finished_run("none") / "best.safetensors").string());
  std::erase_if(contents.tensors, [](const auto& entry) { return entry.first.find("faq") == 0; });
  contents.metadata.clear();
  const fs::path file = folder / "plain.safetensors";
  write_safetensors(file.string(), contents);
  return file;
}

}  // namespace

TEST_CASE("a network is the same however it is stored", "[open_network]") {
  const OneThread one_thread;
  const fs::path run = finished_run("faq");
  const Network trained = open_network({.weights = (run / "best.safetensors").string()});
  const Network deployed = open_network({.weights = (run / "integer.safetensors").string()});
  CHECK(trained.kind == "quantized checkpoint");
  CHECK(deployed.kind == "integer network");
  for (const Network* network : {&trained, &deployed}) {
    CHECK(network->model == "resnet20");
    CHECK(network->num_classes == 3);
    CHECK(network->preprocessing.class_names == std::vector<std::string>{"across", "down", "slanted"});
    CHECK(network->preprocessing.resize == 20);
  }
  const DataChoice data{.data_path = tiny_images().string()};
  std::vector<Evaluation> evaluations;
  for (const Network* network : {&trained, &deployed}) {
    const EvaluationData images = open_evaluation_data(*network, data, 7);
    Scores scores;
    evaluations.push_back(evaluate(network->forward, *images.loader, scores, silent));
  }
  CHECK(evaluations[0].images == 30);
  CHECK(evaluations[0].top1 == evaluations[1].top1);
  CHECK(evaluations[0].loss == evaluations[1].loss);

  const TemporaryFolder folder;
  const std::string file = (folder / "exported.safetensors").string();
  export_integer_network(trained, trained.preprocessing, file);
  CHECK(file_bytes(file) == file_bytes(run / "integer.safetensors"));
  check_error(ErrorKind::usage, "expected a quantized checkpoint, found integer network",
              [&] { export_integer_network(deployed, deployed.preprocessing, file); });
}

TEST_CASE("predictions are probabilities, the likeliest first", "[open_network]") {
  const OneThread one_thread;
  const fs::path run = finished_run("faq");
  const Network network = open_network({.weights = (run / "integer.safetensors").string()});
  const Preprocessing seen = preprocessing_for(network, {}, [] { return 0; });
  CHECK(seen == network.preprocessing);
  const std::string image = (*fs::directory_iterator(tiny_images() / "val" / "down")).path().string();
  const Prediction prediction = predict(network, seen, image);
  CHECK(prediction.fault.empty());
  const std::vector<Guess>& all = prediction.guesses;
  REQUIRE(all.size() == 3);
  std::vector<std::int64_t> classes;
  for (const Guess& guess : all) classes.push_back(guess.index);
  std::ranges::sort(classes);
  CHECK(classes == std::vector<std::int64_t>{0, 1, 2});
  CHECK(all[0].probability >= all[1].probability);
  CHECK(all[1].probability >= all[2].probability);
  CHECK(all[0].probability + all[1].probability + all[2].probability == Approx(1));
  check_error(ErrorKind::usage, "0 classes", [&] { predict(network, seen, image, 0); });
  Network wide = network;
  wide.preprocessing.width = seen.width + 1;
  check_error(ErrorKind::usage, "expected a square", [&] { predict(network, wide.preprocessing, image); });
  check_error(ErrorKind::usage, "`val_crop_size`", [&] { preprocessing_for(wide, {}, [] { return 0; }); });
  CHECK(preprocessing_for(wide, {.val_crop_size = 8}, [] { return 0; }).width == 8);

  // Another crop shows the same part of the image.
  Network photographs = network;
  photographs.preprocessing = {.height = 64, .width = 64, .channels = 3, .resize = 73};
  const auto resize = [&](const DataChoice& data) {
    return preprocessing_for(photographs, data, [] { return 0; }).resize;
  };
  CHECK(resize({}) == 73);
  CHECK(resize({.val_crop_size = 128}) == 146);
  CHECK(resize({.val_resize_size = 90, .val_crop_size = 128}) == 90);
  photographs.preprocessing.resize = 0;  // images are not resized
  CHECK(resize({.val_crop_size = 128}) == 0);
  const std::vector<Guess> first = predict(network, seen, image, 1).guesses;
  REQUIRE(first.size() == 1);
  CHECK(first[0].probability == all[0].probability);
}

TEST_CASE("what is chosen and is not the file's is refused", "[open_network]") {
  const TemporaryFolder folder;
  const std::string quantized = (finished_run("faq") / "best.safetensors").string();
  const std::string integer = (finished_run("faq") / "integer.safetensors").string();
  const std::string plain = plain_weights(folder).string();
  CHECK(describes_itself(quantized));
  CHECK(describes_itself(integer));
  CHECK_FALSE(describes_itself(plain));
  CHECK(open_network({.weights = plain, .model = "resnet20"}).num_classes == 3);
  struct Row {
    NetworkChoice choice;
    const char* message;
  };
  const Row rows[] = {
      {{}, "`weights` is required"},
      {{.weights = plain}, "`model` is required"},
      {{.weights = quantized, .model = "resnet32"}, "`model` resnet32"},
      {{.weights = integer, .model = "resnet32"}, "`model` resnet32"},
      {{.weights = quantized, .num_classes = 4}, "`num_classes` 4"},
      {{.weights = integer, .num_classes = 4}, "`num_classes` 4"},
      {{.weights = integer, .in_channels = 1}, "`in_channels` 1"},
      {{.weights = integer, .mean = {0.5, 0.5, 0.5}}, "`mean`, `std`"},
      {{.weights = quantized, .mean = {0.5, 0.5, 0.5}}, "`mean`, `std`"},
      {{.weights = integer, .average = true}, "`average`"},
      {{.weights = plain, .model = "resnet20", .average = true}, "`average`"},
      {{.weights = quantized, .average = true}, "no moving average"},
  };
  for (const Row& row : rows) {
    INFO(row.message);
    check_error(ErrorKind::usage, row.message, [&] { open_network(row.choice); });
  }
  check_error(ErrorKind::missing_input, "nowhere", [] { open_network({.weights = "nowhere.safetensors"}); });
}

TEST_CASE("data of other classes are refused", "[open_network]") {
  const TemporaryFolder folder;
  const Network network = open_network({.weights = (finished_run("faq") / "integer.safetensors").string()});
  const auto open = [&](const fs::path& path) {
    open_evaluation_data(network, {.data_path = path.string()});
  };
  check_error(ErrorKind::usage, "`data_path` is required", [&] { open(""); });
  write_data_set(folder / "other", 6, 6);
  for (const char* split : {"train", "val"})
    fs::rename(folder / "other" / split / "slanted", folder / "other" / split / "upright");
  check_error(ErrorKind::usage, "class 2 is 'upright', the network's is 'slanted'",
              [&] { open(folder / "other"); });
  for (const char* split : {"train", "val"}) fs::remove_all(folder / "other" / split / "upright");
  check_error(ErrorKind::usage, "2 classes, the network 3", [&] { open(folder / "other"); });
}

TEST_CASE("analyses are data", "[open_network][analysis]") {
  const OneThread one_thread;
  const std::string quantized = (finished_run("faq") / "best.safetensors").string();
  const std::string in_float = (finished_run("none") / "best.safetensors").string();
  const auto similarity = weight_similarity(quantized, in_float);
  CHECK(similarity.size() == 21);
  check_error(ErrorKind::bad_data, "not quantized", [&] { weight_similarity(in_float, in_float); });

  const Network network = open_network({.weights = quantized});
  const EvaluationData images = open_evaluation_data(network, {.data_path = tiny_images().string()});
  const WeightScaleScores scores = weight_scale_scores(network, *images.loader, silent);
  CHECK(scores.layers.size() == 20);
  Scores again;
  CHECK(evaluate(network.forward, *images.loader, again, silent).loss == scores.as_it_is.loss);

  TrainOptions unquantized;
  unquantized.output_dir = "nowhere";
  check_error(ErrorKind::usage, "not quantized", [&] { sensitivity(unquantized, {}); });
  check_error(ErrorKind::usage, "not quantized", [&] { train_at_widths(unquantized, {}); });
}

TEST_CASE("the noise of gradients, by width and batch size", "[open_network][analysis]") {
  const OneThread one_thread;
  GradientNoiseStudy study;
  study.model.weights = (finished_run("none") / "best.safetensors").string();
  study.data.data_path = tiny_images().string();  // 60 training images
  study.batch_sizes = {30, 20, 40, 20};
  study.batches = 2;
  study.bits = {32, 4};
  struct Notices final : RunListener {
    std::vector<std::string> said;
    void notice(const std::string& text) override { said.push_back(text); }
  } listener;
  std::size_t rows = 0;
  const auto result = gradient_noise(study, listener, [&](const GradientNoiseRow&, std::size_t all) {
    CHECK(all == 4);
    ++rows;
  });
  REQUIRE(result.size() == 4);
  CHECK(rows == 4);
  for (std::size_t i = 0; i < 4; ++i) {
    CHECK(result[i].bits == (i < 2 ? 32 : 4));
    CHECK(result[i].batch_size == (i % 2 ? 30 : 20));
    CHECK(result[i].noise.batches == 2);
  }
  CHECK(listener.said == std::vector<std::string>{"batches of 40: left out, there are fewer than two"});
  // By format of the gradients, too, with a comparison for each but f32.
  study.batch_sizes = {20};
  study.grad_formats = {GradFormat::f32, GradFormat::s8};
  const auto formats = gradient_noise(study, listener);
  REQUIRE(formats.size() == 3);
  CHECK(formats[0].grad_format == GradFormat::f32);  // of 32 bits
  CHECK(formats[1].grad_format == GradFormat::f32);
  CHECK(formats[2].grad_format == GradFormat::s8);
  CHECK(formats[0].agreement.empty());
  CHECK(formats[1].agreement.empty());
  REQUIRE(formats[2].agreement.size() == 21);  // 20 layers and all
  CHECK(formats[2].agreement.front().parameter == "conv1.weight");
  CHECK(formats[2].agreement.back().parameter == "all");
  for (const GradientAgreement& row : formats[2].agreement) {
    INFO(row.parameter);
    CHECK(row.cosine > 0.9);
    CHECK(row.cosine < 1);
    CHECK(row.noise > 0);
    CHECK(row.noise < 0.5);
  }
  study.grad_formats = {};
  study.batch_sizes = {0};
  check_error(ErrorKind::usage, "batches of 0", [&] { gradient_noise(study, listener); });
  study.batch_sizes = {40};
  check_error(ErrorKind::bad_data, "fewer than two batches of 40", [&] { gradient_noise(study, listener); });
  study.batches = 1;
  check_error(ErrorKind::usage, "1 batches", [&] { gradient_noise(study, listener); });
  study.model.weights = (finished_run("faq") / "integer.safetensors").string();
  study.batches = 2;
  check_error(ErrorKind::bad_data, "integer", [&] { gradient_noise(study, listener); });
}
