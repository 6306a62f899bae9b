// FAQ's analyses, and their figures.
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/kernels/elementwise.h"
#include "nn/load_weights.h"
#include "quant/weight_scales.h"
#include "quant/weight_similarity.h"
#include "tests/random_network.h"
#include "tools/chart.h"
#include "train/gradient_noise.h"

using namespace faq;
using namespace faq::testing;
using nlohmann::json;

TEST_CASE("weight similarity is the cosine, and blind to what batch-norm takes back", "[analysis]") {
  const OneThread one_thread;
  const Case c{.size = 8, .weight_bits = 4, .act_bits = 4};
  const auto model = quantized_model(c);
  NamedTensors baseline;
  export_weights(*model, baseline);
  for (auto& [name, tensor] : baseline.tensors) tensor = tensor.clone();
  const IntegerNetwork network = compile(*model, c);
  const auto rows = weight_similarity(network, baseline);
  REQUIRE(rows.size() == 21);
  CHECK(rows.front().layer == "conv1");
  CHECK(rows.back().layer == "all");
  double ab = 0, aa = 0, bb = 0;
  std::int64_t weights = 0;
  for (const IntegerNetwork::Node& node : network.nodes()) {
    const auto* conv = dynamic_cast<const ConvOp*>(node.op.get());
    const auto* linear = dynamic_cast<const LinearOp*>(node.op.get());
    if (!conv && !linear) continue;
    const Tensor& q = (conv ? conv->weights : linear->weights).values;
    const auto b = reference::elements<double>(kernels::convert(q, DType::f32));
    const auto a = reference::elements<double>(*baseline.find(node.op->name + ".weight"));
    double layer_ab = 0, layer_aa = 0, layer_bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      layer_ab += a[i] * b[i];
      layer_aa += a[i] * a[i];
      layer_bb += b[i] * b[i];
    }
    const auto row = std::ranges::find(rows, node.op->name, &WeightSimilarity::layer);
    REQUIRE(row != rows.end());
    CHECK(row->cosine == Approx(layer_ab / std::sqrt(layer_aa * layer_bb)));
    CHECK(row->weights == q.numel());
    ab += layer_ab, aa += layer_aa, bb += layer_bb, weights += q.numel();
  }
  CHECK(rows.back().cosine == Approx(ab / std::sqrt(aa * bb)));
  CHECK(rows.back().weights == weights);
  CHECK(rows.back().cosine > 0.97);

  // Channels of the baseline in another scale: each channel's direction is what it was.
  NamedTensors scaled = baseline;
  for (auto& [name, tensor] : scaled.tensors) {
    tensor = tensor.clone();
    if (name != "layer1.0.conv1.weight") continue;
    for (std::int64_t i = 0; i < tensor.numel(); ++i)
      tensor.mutable_data<float>()[i] *= i / (tensor.numel() / 16) % 2 ? 8.0f : 0.25f;
  }
  const auto other = weight_similarity(network, scaled);
  CHECK(other[1].cosine < rows[1].cosine - 0.1);
  CHECK(other[1].by_channel == Approx(rows[1].by_channel).margin(0.01));
  CHECK(other[2].cosine == rows[2].cosine);

  NamedTensors incomplete = baseline;
  std::erase_if(incomplete.tensors, [](const auto& t) { return t.first == "fc.weight"; });
  check_error(ErrorKind::bad_data, "missing fc.weight", [&] { weight_similarity(network, incomplete); });
  for (auto& [name, tensor] : incomplete.tensors)
    if (name == "conv1.weight") tensor = Tensor::zeros({16, 3, 1, 1});
  check_error(ErrorKind::bad_data, "conv1.weight", [&] { weight_similarity(network, incomplete); });
}

TEST_CASE("the step weights have, against the next one", "[analysis]") {
  const OneThread one_thread;
  const Case c{.size = 8, .weight_bits = 4, .act_bits = 4};
  const auto model = quantized_model(c);
  const auto integers = [&] {
    std::map<std::string, Tensor> all;
    const IntegerNetwork network = compile(*model, c);
    for (const IntegerNetwork::Node& node : network.nodes()) {
      if (const auto* conv = dynamic_cast<const ConvOp*>(node.op.get()))
        all[conv->name] = conv->weights.values;
      if (const auto* linear = dynamic_cast<const LinearOp*>(node.op.get()))
        all[linear->name] = linear->weights.values;
    }
    return all;
  };
  const auto before = integers();
  std::map<std::string, std::vector<double>> weights;
  for (const auto& [name, parameter] : parameters(*model))
    weights[name] = reference::numbers(parameter.value());
  const auto error_of = [&](const std::string& layer, const Tensor& rounded) {
    const auto q = reference::numbers(rounded);
    const auto& w = weights.at(layer + ".weight");
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += (w[i] - q[i]) * (w[i] - q[i]);
    return sum;
  };
  int looked = 0;
  const auto rows = weight_scale_choices(*model, [&](const WeightScaleChoice& row) {
    ++looked;
    INFO(row.layer);
    for (const auto& [name, values] : integers()) {
      if (name != row.layer) {
        CHECK(reference::same_bytes(values, before.at(name)));
        continue;
      }
      CHECK(values.fixed_point().scale == row.other);
      CHECK(row.error_ratio == Approx(error_of(name, values) / error_of(name, before.at(name))));
    }
  });
  REQUIRE(rows.size() == 20);
  CHECK(looked == 20);
  for (const WeightScaleChoice& row : rows) {
    INFO(row.layer);
    CHECK(row.format == before.at(row.layer).fixed_point());
    CHECK((row.other == 2 * row.format.scale || row.other == row.format.scale / 2));
    CHECK(row.error_ratio >= 1);
  }
  for (const auto& [name, values] : integers()) CHECK(reference::same_bytes(values, before.at(name)));

  // Steps that are held may have become the worse ones, and are left as they are.
  hold_weight_scales(*model);
  for_each_unit(*model, [](const std::string& name, Unit& unit) {
    if (auto* conv = dynamic_cast<ConvUnit*>(&unit); conv && name != "conv1")
      kernels::scale_in_place(conv->weight().mutable_value(), 0.3f);
  });
  for (const WeightScaleChoice& row : weight_scale_choices(*model)) {
    INFO(row.layer);
    CHECK(row.format == before.at(row.layer).fixed_point());
    CHECK((row.error_ratio < 1) == (row.layer != "conv1" && row.layer != "fc"));
    if (row.error_ratio < 1) CHECK(row.other == row.format.scale / 2);
  }

  const auto of_clusters = quantized_model({.size = 8, .weight_bits = 2, .scheme = Scheme::dfp});
  std::vector<std::string> layers;
  for (const WeightScaleChoice& row : weight_scale_choices(*of_clusters)) layers.push_back(row.layer);
  CHECK(layers == std::vector<std::string>{"conv1", "fc"});
}

TEST_CASE("gradient noise is what mini-batches disagree in", "[analysis]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  const Case c{.size = 8};
  const auto batches = [&](int count, bool same) {
    return [=] {
      return [=, i = 0]() mutable -> std::optional<Batch> {
        if (i == count) return {};
        Batch batch;
        batch.images = images_for(c, 4, same ? 1 : static_cast<std::uint64_t>(i));
        batch.labels = same ? std::vector<std::int32_t>{0, 1, 2, 3} : std::vector<std::int32_t>(4, i % 10);
        batch.samples = {0, 1, 2, 3};
        ++i;
        return batch;
      };
    };
  };
  const GradientNoise none = gradient_noise(*model, batches(3, true));
  CHECK(none.batches == 3);
  CHECK(none.cosine == Approx(1).margin(1e-6));
  CHECK(none.noise < 1e-3 * none.mean_norm);
  const GradientNoise some = gradient_noise(*model, batches(5, false));
  CHECK(some.cosine < 0.9);
  CHECK(some.noise > 0.3 * some.mean_norm);
  check_error(ErrorKind::bad_data, "no batches", [&] { gradient_noise(*model, batches(0, true)); });
}

TEST_CASE("charts are drawn to scale, and say anything", "[analysis]") {
  const Chart chart{"a < b & \"c\"", "x", "y", {"0", "1", "2"}, {{"up", {0, 5, 10}}, {"flat", {5, 5, 5}}}};
  const std::string svg = to_svg(chart);
  CHECK(svg.starts_with("<svg "));
  CHECK(svg.ends_with("</svg>\n"));
  CHECK(svg.find("a &lt; b &amp; &quot;c&quot;") != std::string::npos);
  // 70 to 710 across, 40 (the largest value) to 360 down.
  CHECK(svg.find("points=\"70.0,360.0 390.0,200.0 710.0,40.0 \"") != std::string::npos);
  CHECK(svg.find("points=\"70.0,200.0 390.0,200.0 710.0,200.0 \"") != std::string::npos);
  CHECK(to_svg({}).starts_with("<svg "));
  CHECK(to_svg({"", "", "", {"one"}, {{"s", {3}}}}).find("nan") == std::string::npos);
  CHECK_THROWS_AS(to_svg({"", "", "", {"one"}, {{"s", {}}}}), Error);
}
