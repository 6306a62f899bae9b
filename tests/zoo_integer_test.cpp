// Every network of the zoo in integers.
#include <set>

#include "tests/integer_reference.h"
#include "train/sgd.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Small images, so that it takes seconds: what matters is in the ops and how they are put together.
int small_size(const ModelInfo& info) {
  return info.family == "inception" ? 107 : info.family == "alexnet" ? 67 : info.family == "vgg" ? 32 : 40;
}

// Of the classes of pattern(), which networks tell apart.
constexpr int classes_of_images = 3;

Tensor training_images(const Case& c) {
  Tensor images = Tensor::empty({c.images, c.size, c.size, 3}, DType::u8);
  std::uint8_t* out = images.mutable_data<std::uint8_t>();
  for (int i = 0; i < c.images; ++i)
    out = std::ranges::copy(pattern(i % classes_of_images, c.size, static_cast<std::uint64_t>(i)).pixels, out)
              .out;
  return images;
}

std::vector<std::int32_t> training_labels(const Case& c) {
  std::vector<std::int32_t> labels;
  for (int i = 0; i < c.images; ++i) labels.push_back(i % classes_of_images);
  return labels;
}

RandomKeys samples_of(const Tensor& images) {
  RandomKeys keys{.seed = 1, .epoch = 0, .samples = {}};
  for (std::int64_t i = 0; i < images.dim(0); ++i) keys.samples.push_back(i);
  return keys;
}

// Running statistics as pretrained networks have them: those of the data.
void adopt_statistics(Model& model, const Tensor& images) {
  const NoGrad no_grad;
  BatchStatistics statistics;
  model.forward(training_pass(samples_of(images), &statistics), Var(images));
  update_running_statistics(statistics, 1);
}

std::unique_ptr<Model> quantized_from_images(const Case& c, const Tensor& images) {
  auto model = make_model(c.model, {.num_classes = c.classes});
  initialize(*model, 5);
  adopt_statistics(*model, images);
  const CalibrationResult seen = calibrate(*model, [&, left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(images) : std::nullopt;
  });
  quantize_as(c, Engine::integer, *model, seen);
  return model;
}

float train_step(Model& model, Sgd& sgd, const Case& c, const Tensor& images, double lr) {
  BatchStatistics statistics;
  const TrainingLogits outputs =
      model.forward_training(training_pass(samples_of(images), &statistics), Var(images));
  update_running_statistics(statistics);
  CHECK(outputs.auxiliary.defined() == (model.info().family == "inception"));
  const float loss = cross_entropy(outputs.logits, training_labels(c)).value().item();
  backward(training_loss(outputs, training_labels(c)));
  sgd.step(lr, 1.0);
  return loss;
}

// It is deployed bit for bit, before and after steps of training, and survives being saved. That its loss
// falls is not asked here: a few steps of four images through a hundred layers are chaos.
void check_deployed(const Case& c, const Tensor& images) {
  INFO(c);
  const auto model = quantized_from_images(c, images);
  Tensor logits;
  {
    const IntegerNetwork network = compile(*model, c);
    const std::vector<Tensor> deployed = network.forward_all(images);
    check_same_results("model", network, deployed, tape_values(*model, images));
    const TemporaryFolder folder;
    network.save(folder / "n.safetensors");
    const IntegerNetwork loaded = IntegerNetwork::load(folder / "n.safetensors");
    check_same_results("loaded", loaded, loaded.forward_all(images), deployed);
    logits = deployed.back();
    CHECK(same_result(loaded.forward(images), logits));
  }
  std::set<std::string> moved;
  Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 0});
  for (int step = 0; step < 2; ++step) {
    std::vector<Tensor> before;
    for (const auto& parameter : parameters(*model)) before.push_back(parameter.value.value().clone());
    train_step(*model, sgd, c, images, 0.002);
    const auto after = parameters(*model);
    REQUIRE(after.size() == before.size());
    for (std::size_t i = 0; i < after.size(); ++i)
      if (!reference::same_bytes(after[i].value.value(), before[i])) moved.insert(after[i].name);
  }
  // The classifier has moved whatever the image (its bias by softmax minus label); at 8 bits every parameter
  // has. At 4 bits a layer deep inside may hand on nothing but zeros of such random weights.
  std::set<std::string> still;  // what batch-norm takes away again has no gradient
  for_each_unit(*model, [&](const std::string& name, Unit& unit) {
    if (unit.batch_norm() && unit.batch_norm()->conv_bias) still.insert(name + ".bias");
  });
  const auto all = parameters(*model);
  for (std::size_t i = c.weight_bits == 8 ? 0 : all.size() - 1; i < all.size(); ++i) {
    INFO(all[i].name);
    CHECK(moved.contains(all[i].name) != still.contains(all[i].name));
  }
  // And what it has become is deployed.
  const IntegerNetwork network = compile(*model, c);
  const std::vector<Tensor> deployed = network.forward_all(images);
  check_same_results("model", network, deployed, tape_values(*model, images));
  CHECK_FALSE(same_result(deployed.back(), logits));
}

// It learns a batch of images by heart.
void check_learning(const Case& c, double lr, int steps) {
  INFO(c);
  const Tensor images = training_images(c);
  const auto model = quantized_from_images(c, images);
  Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 0});
  std::vector<float> losses;
  for (int step = 0; step < steps; ++step) losses.push_back(train_step(*model, sgd, c, images, lr));
  CAPTURE(losses);
  CHECK(losses.front() > 0.5f);
  CHECK(losses.back() < 0.5f * losses.front());
}

// Every network of a family is deployed.
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
      check_deployed(c, images);
    }
  }
  return networks;
}

}  // namespace

TEST_CASE("one network of each family is what the formulas say", "[zoo][integer_network][isa]") {
  const OneThread one_thread;
  for (const char* name : {"vgg11_bn", "alexnet", "densenet121", "inception_v3", "resnext50_32x4d",
                           "mobilenet_v2", "efficientnet_lite0"}) {
    const Case c{.model = name, .size = small_size(model_info(name)), .weight_bits = 4, .act_bits = 4};
    INFO(c);
    check_case(c);
  }
}

// A test case each, so that they can run side by side.
TEST_CASE("the CIFAR ResNets are trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("cifar-resnet") == 5);
}
TEST_CASE("the ResNets are trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("resnet") == 6);
}
TEST_CASE("the VGGs are trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("vgg") == 4);
}
TEST_CASE("AlexNet is trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("alexnet") == 1);
}
TEST_CASE("the DenseNets are trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("densenet") == 4);
}
TEST_CASE("Inception is trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("inception") == 1);
}

TEST_CASE("MobileNetV2 is trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("mobilenet") == 1);
}
TEST_CASE("the EfficientNet-Lites are trained and deployed in integers", "[zoo][integer_network]") {
  CHECK(check_family("efficientnet") == 3);
}

TEST_CASE("the other schemes are trained and deployed on a network of each kind", "[zoo][integer_network]") {
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
      {.model = "resnet18", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
      {.model = "resnet20",
       .weight_bits = 2,
       .act_bits = 2,
       .scheme = Scheme::lsq,
       .scale_sharing = ScaleSharing::channel},
      {.model = "densenet121", .scheme = Scheme::lsq, .scale_sharing = ScaleSharing::channel},
      {.model = "alexnet",
       .weight_bits = 3,
       .act_bits = 5,
       .scheme = Scheme::lsq,
       .scale_sharing = ScaleSharing::channel},
      {.model = "inception_v3", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
      {.model = "vgg11_bn", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
      {.model = "efficientnet_lite0", .weight_bits = 2, .scheme = Scheme::dfp},
      {.model = "resnext50_32x4d", .weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 3},
      {.model = "mobilenet_v2", .weight_bits = 6, .act_bits = 6, .scheme = Scheme::dorefa},
      {.model = "efficientnet_lite0", .scheme = Scheme::lsq, .scale_sharing = ScaleSharing::channel},
      {.model = "mobilenet_v2", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
  };
  for (Case& c : cases) {
    const ModelInfo& info = model_info(c.model);
    c.size = info.family == "inception" ? info.input_size : small_size(info);
    // Means over one pixel are integers already, which teach a scale nothing.
    if (info.family == "densenet" && c.scheme == Scheme::lsq) c.size = 64;
    c.images = 4;
    check_deployed(c, training_images(c));
  }
}

TEST_CASE("a batch is learnt by heart by networks of several kinds and schemes", "[zoo][integer_network]") {
  const OneThread one_thread;
  struct Row {
    Case c;
    int steps;
  };
  Row rows[] = {
      {{.model = "resnet18"}, 6},
      {{.model = "alexnet"}, 8},
      {{.model = "densenet121"}, 8},
      {{.model = "resnet20", .weight_bits = 2, .scheme = Scheme::dfp}, 20},
      {{.model = "resnet18", .weight_bits = 2, .scheme = Scheme::dfp, .cluster_size = 64}, 8},
      {{.model = "resnet18", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa}, 8},
      {{.model = "resnet18", .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq}, 8},
      {{.model = "resnet20",
        .weight_bits = 2,
        .act_bits = 2,
        .scheme = Scheme::lsq,
        .scale_sharing = ScaleSharing::channel},
       20},
  };
  for (auto& [c, steps] : rows) {
    c.size = small_size(model_info(c.model));
    c.images = 12;
    c.classes = classes_of_images;
    check_learning(c, 0.01, steps);
  }
}

TEST_CASE("no network of the zoo is left out", "[zoo][integer_network]") {
  CHECK(list_models().size() == 5 + 6 + 4 + 1 + 4 + 1 + 1 + 3);
}
