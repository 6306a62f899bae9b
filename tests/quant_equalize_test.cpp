#include "quant/equalize.h"

#include <cmath>
#include <map>
#include <set>

#include "core/kernels/quantization_error.h"
#include "quant/adapters.h"
#include "quant/faq_scheme.h"
#include "quant/quantize.h"
#include "tests/testing.h"
#include "train/quantized_training.h"

using namespace faq;
using namespace faq::testing;

namespace {

constexpr int bits = 4;
constexpr FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = true};

// A network in evaluation mode whose channels have very different scales: one strong, one feeble, one dead.
std::unique_ptr<Model> uneven_network() {
  auto model = make_model("resnet20", {.num_classes = 3, .in_channels = 3});
  initialize(*model, 1);
  Random random(2, RandomStream::test);
  for_each_unit(*model, [&](const std::string&, Unit& unit) {
    auto* conv = dynamic_cast<ConvNormAct*>(&unit);
    if (!conv) return;
    Tensor& weights = conv->weight().mutable_value();
    const std::int64_t channels = weights.dim(0), each = weights.numel() / channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      const double scale = c == 1 ? 8 : c == 2 ? 1e-6 : c == 3 ? 0 : std::exp2(random.uniform(-1, 1));
      for (std::int64_t i = 0; i < each; ++i)
        weights.mutable_data<float>()[c * each + i] *= static_cast<float>(scale);
      conv->norm().gamma.mutable_value().mutable_data<float>()[c] =
          static_cast<float>(random.uniform(0.5, 1.5));
      conv->norm().running_mean.mutable_data<float>()[c] = static_cast<float>(random.uniform(-0.1, 0.1));
      conv->norm().running_variance.mutable_data<float>()[c] =
          static_cast<float>(c == 3 ? 0 : random.uniform(0.1, 2));
    }
  });
  return model;
}

void quantize_weights(Model& model, WeightScale how = WeightScale::mse) {
  const CalibrationResult seen = calibrate(model, [left = 1]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return Tensor::zeros({1, 8, 8, 3}, DType::u8);
  });
  quantize(model,
           {.scheme = Scheme::faq,
            .weight_bits = bits,
            .act_bits = bits,
            .first_last_bits = bits,
            .weight_scale = how},
           &seen);
}

void restore_floating_point(Model& model) {
  for_each_unit(model, [](const std::string&, Unit& unit) { unit.set_adapter(nullptr); });
}

Tensor images() {
  Tensor all = Tensor::empty({4, 16, 16, 3}, DType::u8);
  std::uint8_t* out = all.mutable_data<std::uint8_t>();
  for (std::uint64_t i = 0; i < 4; ++i)
    out = std::ranges::copy(pattern(static_cast<int>(i) % 3, 16, i).pixels, out).out;
  return all;
}

}  // namespace

TEST_CASE("a row's step is the best of a fine scan", "[quant_equalize]") {
  Random random(1, RandomStream::test);
  for (const int width : {2, 3, 4, 8}) {
    const FixedPoint signed_format{.scale = 1.0f, .bits = width, .is_signed = true};
    Tensor rows = Tensor::empty({5, 700});
    for (float& x : rows.mutable_span<float>())
      x = static_cast<float>(random.uniform(-1, 1) * random.uniform(0, 3));
    std::fill_n(rows.mutable_data<float>() + 700, 700, 0.0f);
    const std::vector<float> steps = kernels::row_scales(rows, signed_format);
    REQUIRE(steps.size() == 5);
    CHECK(steps[1] == 0);
    for (const int row : {0, 2, 3, 4}) {
      const Tensor values = Tensor::from<float>({700}, rows.span<float>().subspan(row * 700, 700));
      const auto error = [&](double step) {
        const FixedPoint tried{.scale = static_cast<float>(step), .bits = width, .is_signed = true};
        return kernels::quantization_errors(values, {&tried, 1})[0];
      };
      double best = INFINITY;
      for (double step = 0.01; step < 4; step *= 1.01) best = std::min(best, error(step));
      INFO(width << " bits, row " << row << ", step " << steps[row]);
      CHECK(error(steps[row]) < 1.05 * best);
    }
  }
}

TEST_CASE("equalized channels compute the same and lose less", "[quant_equalize]") {
  const auto model = uneven_network();
  const Tensor before = model->forward({}, Var(images())).value();
  const auto error =
      [&] {  // per layer, relative: Σ (w − Q(w))² / Σ w² of channels that differ by powers of two at most
        std::map<std::string, double> errors;
        for_each_unit(*model, [&](const std::string& name, Unit& unit) {
          auto* conv = dynamic_cast<ConvNormAct*>(&unit);
          if (!conv) return;
          const Tensor& w = conv->weight().value();
          std::vector<FixedPoint> formats;
          for (float step = 0x1p-12f; step < 8; step *= 2)
            formats.push_back({.scale = step, .bits = bits, .is_signed = true});
          const double smallest = std::ranges::min(kernels::quantization_errors(w, formats));
          double sum = 0;
          for (const float x : w.span<float>()) sum += static_cast<double>(x) * x;
          errors[name] = smallest / sum;
        });
        return errors;
      };
  const auto errors_before = error();
  quantize_weights(*model);
  equalize_channels(*model);
  const auto errors_after = error();
  restore_floating_point(*model);

  const Tensor after = model->forward({}, Var(images())).value();
  for (std::int64_t i = 0; i < before.numel(); ++i)
    CHECK(after.span<float>()[i] == Approx(before.span<float>()[i]).epsilon(1e-4).margin(1e-4));
  for (const auto& [name, smaller] : errors_after) {
    INFO(name);
    CHECK(smaller < errors_before.at(name));
    CHECK(smaller < 0.02);  // a Gaussian at 4 bits: 0.0115
  }
}

TEST_CASE("every channel's own step becomes the layer's power of two", "[quant_equalize]") {
  const auto model = uneven_network();
  quantize_weights(*model);
  equalize_channels(*model);
  for_each_unit(*model, [](const std::string& name, Unit& unit) {
    auto* conv = dynamic_cast<ConvNormAct*>(&unit);
    if (!conv) return;
    INFO(name);
    const std::vector<float> steps = kernels::row_scales(conv->weight().value(), format);
    const float layer = steps[4];
    CHECK(std::log2(layer) == Approx(std::round(std::log2(layer))).margin(0.01));
    CHECK(steps[2] < layer / 1000);  // the feeble channel stays feeble
    CHECK(steps[3] == 0);            // the dead one dead
    for (std::size_t c = 4; c < steps.size(); ++c) CHECK(steps[c] == Approx(layer).epsilon(0.01));
    const NormState& norm = conv->norm();
    for (const Tensor& tensor : {norm.gamma.value(), norm.running_mean, norm.running_variance})
      for (const float x : tensor.span<float>()) CHECK(std::isfinite(x));
  });
}

TEST_CASE("channels are equalized to the step their weights hold", "[quant_equalize]") {
  const auto model = uneven_network();
  quantize_weights(*model);
  hold_weight_scales(*model);  // the steps of strong channels, not of median ones
  equalize_channels(*model);
  for_each_unit(*model, [](const std::string& name, Unit& unit) {
    auto* conv = dynamic_cast<ConvNormAct*>(&unit);
    if (!conv) return;
    INFO(name);
    const float held = dynamic_cast<const QuantizedUnit&>(*unit.adapter()).state().weight_scale;
    const std::vector<float> steps = kernels::row_scales(conv->weight().value(), format);
    for (std::size_t c = 4; c < steps.size(); ++c) CHECK(steps[c] == Approx(held).epsilon(0.01));
  });
}

TEST_CASE("channels are equalized to the step their weights will have", "[quant_equalize]") {
  const auto model = uneven_network();
  quantize_weights(*model, WeightScale::max);
  equalize_channels(*model);
  for_each_unit(*model, [](const std::string& name, Unit& unit) {
    auto* conv = dynamic_cast<ConvNormAct*>(&unit);
    if (!conv) return;
    INFO(name);
    const Tensor& weights = conv->weight().value();
    // All of them reach the end of the layer's range, and none leaves it, which would double the step.
    const double covered = format.max() * choose_weight_format(weights, bits, WeightScale::max).scale;
    for (std::int64_t c = 0; c < weights.dim(0); ++c) {
      const double largest = kernels::max_magnitude(weights.rows(c, c + 1));
      CHECK(largest <= covered);
      if (c != 2 && c != 3) CHECK(largest > covered * (1 - 1e-5));  // feeble and dead
    }
  });
}

TEST_CASE("excepted layers are left as they are", "[quant_equalize]") {
  const auto model = uneven_network();
  quantize_weights(*model);
  std::map<std::string, Tensor> before;
  for (const auto& [name, parameter] : parameters(*model)) before[name] = parameter.value().clone();
  equalize_channels(*model, {"conv1", "layer2.0.conv2"});
  for (const auto& [name, parameter] : parameters(*model)) {
    INFO(name);
    const bool kept = name == "conv1.weight" || name == "bn1.weight" || name == "layer2.0.conv2.weight" ||
                      name == "layer2.0.bn2.weight" || name.ends_with(".bias") || name.starts_with("fc.");
    CHECK(reference::same_bytes(parameter.value(), before[name]) == kept);
  }
}

TEST_CASE("a phase equalizes the layers whose weights get other bits than they learnt with",
          "[quant_equalize]") {
  struct Row {
    const char* what;
    bool weights_first;
    std::vector<Widths> bits_schedule;
    std::vector<LayerBits> layer_bits;
    std::set<std::string> kept;  // by the second phase, of the three looked at
  };
  const Row rows[] = {
      {"both after weights", true, {}, {}, {"conv1", "layer1.0.conv1", "layer3.2.conv2"}},
      {"fewer bits, the first layer's stay", false, {{4, 4}, {3, 3}}, {}, {"conv1"}},
      {"fewer bits but for one layer",
       false,
       {{4, 4}, {3, 3}},
       {{"layer1.0.conv1", 5, 5}},
       {"conv1", "layer1.0.conv1"}},
      {"fewer bits of activations",
       false,
       {{4, 8}, {4, 4}},
       {},
       {"conv1", "layer1.0.conv1", "layer3.2.conv2"}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    TrainOptions options;
    options.scheme = Scheme::faq;
    options.weight_bits = options.act_bits = 4;
    options.weights_first = row.weights_first;
    options.bits_schedule = row.bits_schedule;
    options.layer_bits = row.layer_bits;
    const auto method = make_method(options);
    REQUIRE(method->phases() == 2);
    const auto model = uneven_network();
    const BatchSource batches = [](int) -> Batches {
      return [left = 1]() mutable -> std::optional<Tensor> {
        return left-- > 0 ? std::optional(images()) : std::nullopt;
      };
    };
    const auto weights = [&] {
      std::map<std::string, Tensor> all;
      for (const auto& [name, parameter] : parameters(*model)) all[name] = parameter.value().clone();
      return all;
    };
    const auto initially = weights();
    method->begin_phase(*model, 0, batches);
    // As if it had learnt.
    for (auto& [name, parameter] : parameters(*model))
      if (name.ends_with("weight"))
        for (float& w : parameter.mutable_value().mutable_span<float>())
          w *= 1.1f + 0.3f * std::sin(1e3f * w);
    const auto learnt = weights();
    method->begin_phase(*model, 1, batches);
    const auto now = weights();
    for (const std::string name : {"conv1", "layer1.0.conv1", "layer3.2.conv2"}) {
      INFO(name);
      const std::string weight = name + ".weight";
      CHECK_FALSE(reference::same_bytes(learnt.at(weight), initially.at(weight)));
      CHECK(reference::same_bytes(now.at(weight), learnt.at(weight)) == row.kept.contains(name));
    }
  }
}
