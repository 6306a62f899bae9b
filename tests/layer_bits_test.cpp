// The bits each layer is given, and what the report of a network counts.
#include <cmath>

#include "quant/layer_report.h"
#include "tests/integer_reference.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("every layer gets the bits it was promised", "[integer_network]") {
  const OneThread one_thread;
  struct Expected {
    const char* name;
    int weights, activations;  // weights 0: none
  };
  struct Row {
    Case c;
    std::vector<Expected> expected;
  };
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
  for (const Row& row : rows) {
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
      for (const IntegerNetwork::Step& step : network.steps()) {
        if (step.op->name != e.name) continue;
        if (const auto* conv = dynamic_cast<const ConvOp*>(step.op.get())) {
          CHECK(conv->weights.bits == e.weights);
          CHECK(conv->requantize.format.bits == e.activations);
        }
        if (const auto* linear = dynamic_cast<const LinearOp*>(step.op.get())) {
          CHECK(linear->weights.bits == e.weights);
          CHECK(linear->input.bits == e.activations);
        }
      }
    }
  }
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

TEST_CASE("the share of multiplications that ternary groups replace", "[integer_network]") {
  const OneThread one_thread;
  // ResNet-20: its layers by input channels, with their multiply-accumulates per image.
  const std::pair<int, double> layers[] = {
      {16, 6 * 2359296.0 + 1179648.0}, {32, 5 * 2359296.0 + 1179648.0}, {64, 5 * 2359296.0}};
  const double whole = 442368 + layers[0].second + layers[1].second + layers[2].second + 640;
  struct Row {
    std::int64_t cluster_size;
    double replaced;  // docs/experiments.md
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
