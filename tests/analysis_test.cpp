// FAQ's analyses, and their figures.
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/kernels/elementwise.h"
#include "nn/load_weights.h"
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
  for (const IntegerNetwork::Step& step : network.steps()) {
    const auto* conv = dynamic_cast<const ConvOp*>(step.op.get());
    const auto* linear = dynamic_cast<const LinearOp*>(step.op.get());
    if (!conv && !linear) continue;
    const Tensor& q = (conv ? conv->weights : linear->weights).values;
    const auto b = reference::elements<double>(kernels::convert(q, DType::f32));
    const auto a = reference::elements<double>(*baseline.find(step.op->name + ".weight"));
    double layer_ab = 0, layer_aa = 0, layer_bb = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
      layer_ab += a[i] * b[i];
      layer_aa += a[i] * a[i];
      layer_bb += b[i] * b[i];
    }
    const auto row = std::ranges::find(rows, step.op->name, &WeightSimilarity::layer);
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
