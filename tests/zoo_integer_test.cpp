// Every network of the zoo in integers.
#include "data/decode.h"
#include "data/transforms.h"
#include "tests/integer_reference.h"
#include "train/sgd.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Small images, so that it takes seconds: what matters is in the ops and how they are put together.
int small_size(const ModelInfo& info) {
  return info.family == "inception" ? 107 : info.family == "alexnet" ? 67 : info.family == "vgg" ? 32 : 40;
}

Tensor photographs_of(const fs::path& folder, int count, int size) {
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) files.push_back(entry.path());
  }
  std::ranges::sort(files);
  Tensor images = Tensor::empty({count, size, size, 3}, DType::u8);
  for (int i = 0; i < count; ++i) {
    const Image image = transform_for_evaluation(load_image(files[static_cast<std::size_t>(i)], 3),
                                                 {Augmentation::none, size, size * 8 / 7});
    std::ranges::copy(image.pixels, images.rows(i, i + 1).mutable_data<std::uint8_t>());
  }
  return images;
}

// Photographs where the shared data are there, else noise.
Tensor training_images(const Case& c) {
  const auto photographs = real_data("imagenet-sample");
  return photographs ? photographs_of(*photographs, c.images, c.size) : images_for(c, c.images);
}

// Running statistics as pretrained networks have them: those of the data.
void adopt_statistics(Model& model, const Tensor& images) {
  const NoGrad no_grad;
  BatchStatistics statistics;
  model.forward(training_pass({.seed = 1, .samples = {0, 1, 2, 3}}, &statistics), Var(images));
  update_running_statistics(statistics, 1);
}

// It is deployed bit for bit, before and after it has learned a little, and survives being saved. (What the
// deepest DenseNets learn from so small images is no longer finite, and such a network is not loaded.)
void check_learning(const Case& c, const Tensor& images) {
  INFO(c);
  const auto model = make_model(c.model, {.num_classes = c.classes});
  initialize(*model, 5);
  adopt_statistics(*model, images);
  const CalibrationResult seen = calibrate(*model, [&, left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(images) : std::nullopt;
  });
  quantize_as(c, Engine::integer, *model, seen);
  {
    const IntegerNetwork network = compile(*model, c);
    const std::vector<Tensor> deployed = network.forward_all(images);
    check_same_results("model", network, deployed, tape_values(*model, images));
    const TemporaryFolder folder;
    network.save(folder / "n.safetensors");
    const IntegerNetwork loaded = IntegerNetwork::load(folder / "n.safetensors");
    check_same_results("loaded", loaded, loaded.forward_all(images), deployed);
    CHECK(same_result(loaded.forward(images), deployed.back()));
  }
  Sgd sgd(parameters(*model), {.momentum = 0.9, .weight_decay = 0});
  std::vector<float> losses;
  for (int step = 0; step < 4; ++step) {
    const std::vector<std::int32_t> labels{3, 7, 1, 4};
    BatchStatistics statistics;
    const TrainingLogits outputs = model->forward_training(
        training_pass({.seed = 1, .samples = {0, 1, 2, 3}}, &statistics), Var(images));
    update_running_statistics(statistics);
    losses.push_back(cross_entropy(outputs.logits, labels).value().item());
    CHECK(outputs.auxiliary.defined() == (model->info().family == "inception"));
    backward(training_loss(outputs, labels));
    sgd.step(0.002, 1.0);
  }
  INFO("losses " << losses[0] << " " << losses[1] << " " << losses[2] << " " << losses[3]);
  // Four images are a noisy batch: a later step may undo some of it.
  CHECK(*std::min_element(losses.begin() + 1, losses.end()) < losses.front());
  // And what it has learned is deployed.
  const IntegerNetwork network = compile(*model, c);
  check_same_results("model", network, network.forward_all(images), tape_values(*model, images));
}

// Every network of a family is deployed bit for bit, before and after it has learned a little.
int check_family(const std::string& family) {
  int networks = 0;
  for (const ModelInfo& info : list_models()) {
    if (info.family != family) continue;
    ++networks;
    // The auxiliary head wants its own size.
    const int size = info.family == "inception" ? info.input_size : small_size(info);
    Case c{.model = info.name.c_str(), .size = size, .images = 4};
    const Tensor images = training_images(c);
    for (const int bits : {8, 4}) {
      c.weight_bits = c.act_bits = bits;
      check_learning(c, images);
    }
  }
  return networks;
}

}  // namespace

TEST_CASE("one network of each family is what the formulas say", "[zoo][integer_network][isa]") {
  const OneThread one_thread;
  for (const char* name : {"vgg11_bn", "alexnet", "densenet121", "inception_v3"}) {
    const Case c{.model = name, .size = small_size(model_info(name)), .weight_bits = 4, .act_bits = 4};
    INFO(c);
    check_case(c);
  }
}

// A test case each, so that they can run side by side.
TEST_CASE("the CIFAR ResNets learn in integers", "[zoo][integer_network]") {
  CHECK(check_family("cifar-resnet") == 5);
}
TEST_CASE("the ResNets learn in integers", "[zoo][integer_network]") { CHECK(check_family("resnet") == 5); }
TEST_CASE("the VGGs learn in integers", "[zoo][integer_network]") { CHECK(check_family("vgg") == 4); }
TEST_CASE("AlexNet learns in integers", "[zoo][integer_network]") { CHECK(check_family("alexnet") == 1); }
TEST_CASE("the DenseNets learn in integers", "[zoo][integer_network]") {
  CHECK(check_family("densenet") == 4);
}
TEST_CASE("Inception learns in integers", "[zoo][integer_network]") { CHECK(check_family("inception") == 1); }
TEST_CASE("the other schemes learn on a network of each kind", "[zoo][integer_network]") {
  const OneThread one_thread;
  Case cases[] = {
      {.model = "resnet20", .weight_bits = 2, .scheme = Scheme::dfp},
      {.model = "resnet18", .weight_bits = 2, .scheme = Scheme::dfp, .cluster_size = 64},
      {.model = "densenet121", .weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 0},
      {.model = "alexnet", .weight_bits = 4, .scheme = Scheme::dfp},
      {.model = "inception_v3", .weight_bits = 2, .scheme = Scheme::dfp},
      {.model = "resnet18", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa},
      {.model = "densenet121", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa},
      {.model = "alexnet", .weight_bits = 6, .act_bits = 6, .scheme = Scheme::dorefa},
  };
  for (Case& c : cases) {
    const ModelInfo& info = model_info(c.model);
    c.size = info.family == "inception" ? info.input_size : small_size(info);
    c.images = 4;
    check_learning(c, training_images(c));
  }
}

TEST_CASE("no network of the zoo is left out", "[zoo][integer_network]") {
  CHECK(list_models().size() == 5 + 5 + 4 + 1 + 4 + 1);
}
