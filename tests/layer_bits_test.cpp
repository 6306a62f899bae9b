// The bits each layer is given, and what the report of a network counts.
#include <cmath>

#include "quant/deploy/layer_report.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

struct Expected {
  const char* name;
  int weights, activations;  // weights 0: none
};
struct Row {
  Case c;
  std::vector<Expected> expected;
};

// The plan says so, and the integer network does so.
void check_bits(const Row& row) {
  INFO(row.c);
  const auto model = quantized_model(row.c);
  const IntegerNetwork network = compile(*model, row.c);
  std::map<std::string, LayerPlan> plan;
  for (const LayerPlan& layer : layer_plan(*model)) plan[layer.name] = layer;
  for (const Expected& e : row.expected) {
    INFO(e.name);
    REQUIRE(plan.contains(e.name));
    CHECK(plan[e.name].weight_bits == e.weights);
    CHECK(plan[e.name].activation.bits == e.activations);
    for (const IntegerNetwork::Node& node : network.nodes()) {
      if (node.op->name != e.name) continue;
      if (const auto* conv = dynamic_cast<const ConvOp*>(node.op.get())) {
        CHECK(conv->weights.bits == e.weights);
        CHECK(conv->requantize.format.bits == e.activations);
      }
      if (const auto* linear = dynamic_cast<const LinearOp*>(node.op.get())) {
        CHECK(linear->weights.bits == e.weights);
        CHECK(linear->input == plan[e.name].activation);
      }
    }
  }
}

}  // namespace

TEST_CASE("every layer gets the bits it was promised", "[integer_network]") {
  const OneThread one_thread;
  // What feeds the classifier is the last layer's input: it keeps the bits of the first and last layer.
  const Row rows[] = {
      {{.size = 8},
       {{"input", 0, 8}, {"conv1", 8, 8}, {"layer1.0.conv1", 8, 8}, {"layer3.2.conv2", 8, 8}, {"fc", 8, 8}}},
      {{.size = 8, .weight_bits = 4, .act_bits = 3},
       {{"input", 0, 8}, {"conv1", 8, 3}, {"layer1.0.conv1", 4, 3}, {"layer3.2.conv2", 4, 8}, {"fc", 8, 8}}},
      {{.size = 8, .weight_bits = 4, .act_bits = 3, .first_last_bits = 5},
       {{"input", 0, 8}, {"conv1", 5, 3}, {"layer1.0.conv1", 4, 3}, {"layer3.2.conv2", 4, 5}, {"fc", 5, 5}}},
      {{.size = 8,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"*", 6, 6}, {"layer2.?.conv1", 3, 5}, {"fc", 8, 8}, {"?*c", 2, 7}}},
       {{"input", 0, 8},
        {"conv1", 6, 6},
        {"layer1.0.conv1", 6, 6},
        {"layer2.0.conv1", 3, 5},
        {"layer2.2.conv1", 3, 5},
        {"layer2.2.conv2", 6, 6},
        {"layer3.2.conv2", 6, 6},
        {"fc", 2, 7}}},
  };
  for (const Row& row : rows) check_bits(row);
}

TEST_CASE("residual sums, and what they add, may have bits of their own", "[integer_network]") {
  const OneThread one_thread;
  const Row rows[] = {
      // The first layer and the sums of all blocks but the last, which feeds the classifier.
      {{.size = 8, .weight_bits = 4, .act_bits = 3, .first_last_bits = 6, .residual_bits = 7},
       {{"conv1", 6, 7},
        {"layer1.0.conv1", 4, 3},
        {"layer1.0.conv2", 4, 7},
        {"layer2.0.conv1", 4, 3},
        {"layer3.1.conv2", 4, 7},
        {"layer3.2.conv2", 4, 6}}},
      // Shortcuts with weights are added; the first layer is pooled first.
      {{.model = "resnet18", .size = 32, .weight_bits = 4, .act_bits = 4, .residual_bits = 8},
       {{"conv1", 8, 8},
        {"layer1.0.conv1", 4, 4},
        {"layer1.0.conv2", 4, 8},
        {"layer1.1.conv2", 4, 8},
        {"layer2.0.downsample.0", 4, 8},
        {"layer2.0.conv2", 4, 8}}},
      // Linear bottlenecks: blocks whose output has the shape of their input, and those before them.
      {{.model = "mobilenet_v2", .size = 32, .weight_bits = 4, .act_bits = 4, .residual_bits = 8},
       {{"features.1.conv.1", 4, 4},
        {"features.2.conv.0.0", 4, 4},
        {"features.2.conv.2", 4, 8},
        {"features.3.conv.2", 4, 8},
        {"features.4.conv.2", 4, 8},
        {"features.17.conv.2", 4, 4}}},
      {{.size = 8, .weight_bits = 4, .act_bits = 4, .residual_bits = 8, .layer_bits = {{"layer1.*", 4, 5}}},
       {{"conv1", 8, 8}, {"layer1.0.conv2", 4, 5}, {"layer2.0.conv2", 4, 8}}},
  };
  for (const Row& row : rows) check_bits(row);

  // It is a short name for the layers by name.
  const Case by_name{
      .size = 8, .weight_bits = 4, .act_bits = 4, .layer_bits = {{"*conv2", 4, 8}, {"conv1", 8, 8}}};
  const Case short_name{.size = 8, .weight_bits = 4, .act_bits = 4, .residual_bits = 8};
  const Tensor images = images_for(by_name, 2);
  const auto logits = [&](const Case& c) { return quantized_model(c)->forward({}, Var(images)).value(); };
  CHECK(reference::same_bytes(logits(by_name), logits(short_name)));

  Case without{.model = "vgg11_bn", .residual_bits = 8};
  const Calibrated calibrated = calibrated_model(without);
  CHECK_THROWS_WITH(quantize_as(without, Engine::integer, *calibrated.model, calibrated.seen),
                    Catch::Contains("`residual_bits` 8: the network has no residual connections"));
}

TEST_CASE("bits for a layer that is not there are refused", "[integer_network]") {
  const OneThread one_thread;
  Case c{.size = 8};
  const Calibrated calibrated = calibrated_model(c);
  for (const std::string& pattern :
       {std::string("layer9*"), std::string("layer1.0.conv"), std::string("input"), std::string("avgpool"),
        std::string(), std::string(40, '*') + "z", std::string("*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*?*")}) {
    INFO(pattern);
    c.layer_bits = {{"conv1", 4, 4}, {pattern, 4, 4}};
    CHECK_THROWS_WITH(quantize_as(c, Engine::integer, *calibrated.model, calibrated.seen),
                      Catch::Contains("no layer has that name"));
  }
}

TEST_CASE("layers that share their activations share the bits an override gives one of them",
          "[integer_network]") {
  const OneThread one_thread;
  const Row rows[] = {
      {{.model = "densenet121",
        .size = 32,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"features.denseblock1.*", 6, 6}}},
       {{"features.conv0", 8, 6},
        {"features.denseblock1.denselayer1.norm1", 0, 6},
        {"features.denseblock1.denselayer3.conv2", 6, 6},
        {"features.transition1.norm", 0, 4},
        {"features.denseblock2.denselayer1.conv2", 4, 8}}},
      {{.model = "densenet121",
        .size = 32,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"*", 5, 5}, {"features.denseblock4.denselayer16.*", 6, 5}}},
       {{"features.transition3.conv", 5, 5},
        {"features.denseblock4.denselayer16.conv2", 6, 5},
        {"features.denseblock4.denselayer2.conv2", 5, 5}}},
      {{.model = "inception_v3",
        .size = 107,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"Mixed_5d.*", 6, 6}, {"Mixed_6e.branch1x1.*", 8, 5}}},
       {{"Mixed_5d.branch1x1.conv", 6, 6},
        {"Mixed_5d.branch5x5_1.conv", 6, 6},
        {"Mixed_6a.branch3x3.conv", 4, 6},
        {"Mixed_6e.branch1x1.conv", 8, 5},
        {"Mixed_6e.branch7x7_1.conv", 4, 4},
        {"Mixed_7a.branch3x3_2.conv", 4, 5},
        {"Mixed_7c.branch1x1.conv", 4, 8}}},
      // The classifier reads the integers of the layer before it.
      {{.model = "alexnet",
        .size = 67,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"classifier.6", 5, 7}}},
       {{"classifier.1", 4, 4}, {"classifier.4", 4, 7}, {"classifier.6", 5, 7}}},
      {{.model = "vgg11_bn",
        .size = 32,
        .weight_bits = 4,
        .act_bits = 4,
        .layer_bits = {{"classifier.3", 5, 6}}},
       {{"classifier.0", 4, 4}, {"classifier.3", 5, 6}, {"classifier.6", 8, 6}}},
  };
  for (const Row& row : rows) check_bits(row);
}

TEST_CASE("bits that contradict each other are refused, and nothing has happened", "[integer_network]") {
  const OneThread one_thread;
  struct Row {
    Case c;
    const char* message;
  };
  const Row rows[] = {
      {{.model = "densenet121",
        .size = 32,
        .layer_bits = {{"features.conv0", 8, 6}, {"*.denselayer2.conv2", 4, 5}}},
       "'features.conv0' and 'features.denseblock1.denselayer2.conv2' share their activations, which "
       "features.conv0=8,6 and *.denselayer2.conv2=4,5 give different bits"},
      {{.model = "alexnet", .size = 67, .layer_bits = {{"*", 4, 4}, {"classifier.6", 8, 8}}},
       "'classifier.4' and 'classifier.6' share their activations"},
      {{.size = 8, .layer_bits = {{"conv1", 4, 4}, {"layer9", 4, 4}}}, "no layer has that name"},
  };
  for (const Row& row : rows) {
    INFO(row.c);
    const Calibrated calibrated = calibrated_model(row.c);
    check_error(ErrorKind::usage, row.message,
                [&] { quantize_as(row.c, Engine::integer, *calibrated.model, calibrated.seen); });
    for_each_unit(*calibrated.model,
                  [](const std::string&, Unit& unit) { CHECK(unit.adapter() == nullptr); });
  }
}

TEST_CASE("the share of multiplications that ternary groups replace", "[integer_network]") {
  const OneThread one_thread;
  // ResNet-20: its layers by input channels, with their multiply-accumulates per image.
  const std::pair<int, double> layers[] = {
      {16, 6 * 2359296.0 + 1179648.0}, {32, 5 * 2359296.0 + 1179648.0}, {64, 5 * 2359296.0}};
  const double whole = 442368 + layers[0].second + layers[1].second + layers[2].second + 640;
  struct Row {
    std::int64_t cluster_size;
    double replaced;  // docs/experiments/clusters.md
  };
  for (const Row& row : {Row{1, 87.92}, Row{4, 96.16}, Row{16, 98.22}, Row{64, 98.48}, Row{0, 98.48}}) {
    INFO("clusters of " << row.cluster_size);
    double multiplications = 442368 + 640;  // the first layer and the classifier
    for (const auto& [channels, macs] : layers) {
      const auto size = static_cast<double>(row.cluster_size == 0 ? channels : row.cluster_size);
      multiplications += macs * std::ceil(channels / size) / (9.0 * channels);
    }
    CHECK(100 * (1 - multiplications / whole) == Approx(row.replaced).margin(0.005));
    const Case c{.weight_bits = 2, .scheme = Scheme::dfp, .cluster_size = row.cluster_size};
    const auto model = quantized_model(c);
    double counted = 0, macs = 0;
    for (const LayerReport& layer : layer_report(compile(*model, c))) {
      counted += static_cast<double>(layer.multiplications);
      macs += static_cast<double>(layer.macs);
    }
    CHECK(macs == whole);
    CHECK(counted == multiplications);
  }
  // Weights of more than two bits have their groups' scales, too, and still are multiplied one by one.
  const Case c{.weight_bits = 4, .scheme = Scheme::dfp, .cluster_size = 4};
  for (const LayerReport& layer : layer_report(compile(*quantized_model(c), c)))
    CHECK(layer.multiplications == layer.macs);
}
