// Which units read what, share a step, and therefore have which bits.
#include "quant/flow.h"

#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

std::map<std::string, UnitFlow> flow_of(const char* model_name, int size) {
  const auto model = make_model(model_name, {});
  initialize(*model, 1);
  return trace_flow(*model, Tensor::zeros({1, size, size, 3}, DType::u8));
}

std::map<std::string, LayerPlan> plan_of(const char* model_name, int size) {
  const Case c{.model = model_name, .size = size, .weight_bits = 4, .act_bits = 4};
  std::map<std::string, LayerPlan> plan;
  for (const LayerPlan& row : layer_plan(*quantized_model(c))) plan[row.name] = row;
  return plan;
}

}  // namespace

TEST_CASE("what DenseNet concatenates has one step a block, and 8 bits", "[flow]") {
  const auto flow = flow_of("densenet121", 32);
  const auto plan = plan_of("densenet121", 32);
  struct Row {
    const char* name;
    const char* tied_to;
    bool read_by_norm;
    int weight_bits, act_bits;
  };
  const Row rows[] = {
      {"features.conv0", "features.conv0", true, 8, 8},
      {"features.denseblock1.denselayer1.norm1", "features.denseblock1.denselayer1.norm1", false, 0, 4},
      {"features.denseblock1.denselayer1.conv1", "features.denseblock1.denselayer1.conv1", false, 4, 4},
      {"features.denseblock1.denselayer1.conv2", "features.conv0", true, 4, 8},
      {"features.denseblock1.denselayer6.conv2", "features.conv0", true, 4, 8},
      {"features.transition1.norm", "features.transition1.norm", false, 0, 4},
      {"features.transition1.conv", "features.transition1.conv", true, 4, 8},
      {"features.denseblock2.denselayer1.conv2", "features.transition1.conv", true, 4, 8},
      {"features.denseblock4.denselayer16.conv2", "features.transition3.conv", true, 4, 8},
      {"features.norm5", "features.norm5", false, 0, 8},  // the classifier's input
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const UnitFlow& found = flow.at(row.name);
    CHECK(found.tied_to == row.tied_to);
    CHECK(found.read_by_norm == row.read_by_norm);
    // What only a convolution makes is signed, and so is what is concatenated with it.
    CHECK(found.is_signed == row.read_by_norm);
    CHECK(plan.at(row.name).activation.is_signed == row.read_by_norm);
    const bool last = row.name == std::string("features.norm5");
    CHECK(found.read_by_conv == (!row.read_by_norm && !last));
    CHECK(found.read_by_classifier == last);
    CHECK(plan.at(row.name).weight_bits == row.weight_bits);
    CHECK(plan.at(row.name).activation.bits == row.act_bits);
    CHECK(plan.at(row.name).activation == plan.at(row.tied_to).activation);
  }
  CHECK(plan.at("classifier").weight_bits == 8);
}

TEST_CASE("values are signed where no ReLU made them, whatever calibration saw", "[flow]") {
  const OneThread one_thread;
  const Case c{.model = "resnet18", .size = 32};
  struct Row {
    const char* what;
    float shift;  // of the shortcut's normalisation, whose scale is 0
  };
  for (const Row& row : {Row{"never negative", 5}, Row{"nothing but zeros", 0}}) {
    INFO(row.what);
    auto model = make_model(c.model, {});
    initialize(*model, 1);
    for (auto& [name, parameter] : parameters(*model)) {
      if (name == "layer2.0.downsample.1.weight") parameter.mutable_value() = Tensor::full({128}, 0);
      if (name == "layer2.0.downsample.1.bias") parameter.mutable_value() = Tensor::full({128}, row.shift);
    }
    const CalibrationResult seen = calibrate(*model, [&, left = 1]() mutable -> std::optional<Tensor> {
      return left-- > 0 ? std::optional(images_for(c, 2)) : std::nullopt;
    });
    CHECK(seen.histogram("layer2.0.downsample.0").max() == row.shift);
    quantize_as(c, Engine::integer, *model, seen);
    for (const LayerPlan& layer : layer_plan(*model)) {
      INFO(layer.name);
      const bool without_relu = layer.name == "input" || layer.name.find("downsample") != std::string::npos;
      CHECK(layer.activation.is_signed == without_relu);
    }
  }
}

TEST_CASE("a classifier of integers has the format of what it reads", "[flow]") {
  struct Row {
    const char* model;
    int size;
    const char *classifier, *tied_to;
  };
  for (const Row& row : {Row{"vgg11_bn", 32, "classifier.6", "classifier.3"},
                         Row{"alexnet", 67, "classifier.6", "classifier.4"}, Row{"resnet18", 32, "fc", "fc"},
                         Row{"densenet121", 32, "classifier", "classifier"}}) {
    INFO(row.model);
    const auto flow = flow_of(row.model, row.size);
    CHECK(flow.at(row.classifier).tied_to == row.tied_to);
    CHECK(flow.at(row.classifier).read_by_classifier);
    CHECK_FALSE(flow.at(row.classifier).is_signed);
    const auto plan = plan_of(row.model, row.size);
    CHECK(plan.at(row.classifier).activation == plan.at(row.tied_to).activation);
  }
}

TEST_CASE("Inception's branches share a step, through pooling too", "[flow]") {
  const auto flow = flow_of("inception_v3", 107);
  const auto plan = plan_of("inception_v3", 107);
  struct Row {
    const char* name;
    const char* tied_to;
  };
  const Row rows[] = {
      {"Conv2d_4a_3x3.conv", "Conv2d_4a_3x3.conv"},  // pooled, read by four branches, concatenated with none
      {"Mixed_5b.branch1x1.conv", "Mixed_5b.branch1x1.conv"},
      {"Mixed_5b.branch5x5_1.conv", "Mixed_5b.branch5x5_1.conv"},  // inside a branch
      {"Mixed_5b.branch5x5_2.conv", "Mixed_5b.branch1x1.conv"},
      {"Mixed_5b.branch_pool.conv", "Mixed_5b.branch1x1.conv"},
      {"Mixed_5c.branch1x1.conv", "Mixed_5c.branch1x1.conv"},
      // 6a concatenates what it makes with 5d's values, pooled.
      {"Mixed_6a.branch3x3.conv", "Mixed_6a.branch3x3.conv"},
      {"Mixed_6a.branch3x3dbl_3.conv", "Mixed_6a.branch3x3.conv"},
      {"Mixed_5d.branch1x1.conv", "Mixed_6a.branch3x3.conv"},
      {"Mixed_5d.branch_pool.conv", "Mixed_6a.branch3x3.conv"},
      {"Mixed_6e.branch1x1.conv", "Mixed_7a.branch3x3_2.conv"},
      {"Mixed_7b.branch3x3_2b.conv", "Mixed_7b.branch1x1.conv"},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    CHECK(flow.at(row.name).tied_to == row.tied_to);
    CHECK(flow.at(row.name).read_by_conv);
    CHECK_FALSE(flow.at(row.name).read_by_norm);
    CHECK(plan.at(row.name).activation == plan.at(row.tied_to).activation);
    CHECK(plan.at(row.name).activation.bits == 4);
    CHECK(plan.at(row.name).weight_bits == 4);
  }
  CHECK(flow.at("Mixed_7c.branch1x1.conv").read_by_classifier);
  CHECK(plan.at("Mixed_7c.branch1x1.conv").activation.bits == 8);
  CHECK(plan.at("Conv2d_1a_3x3.conv").weight_bits == 8);
  CHECK(plan.at("fc").weight_bits == 8);
  CHECK_FALSE(flow.contains("AuxLogits.conv0.conv"));  // trained only, never deployed
}
