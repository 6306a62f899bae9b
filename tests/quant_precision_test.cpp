// Networks of which only a part is quantized: the first of two stages, stochastic precision.
#include "core/kernels/elementwise.h"
#include "quant/adapters.h"
#include "quant/scheme.h"
#include "tests/random_network.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Every weight of the model replaced by the number its integer stands for.
void round_weights(Model& model, const Case& c, const std::map<std::string, LayerPlan>& plan) {
  NumberFormat options;
  options.scheme = c.scheme;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    Var* weight = nullptr;
    if (auto* conv = dynamic_cast<ConvUnit*>(&unit)) weight = &conv->weight();
    if (auto* linear = dynamic_cast<Linear*>(&unit)) weight = &linear->weight();
    if (!weight) return;
    const int bits = plan.at(name).weight_bits;
    const Tensor values =
        quantize_weights(rounded_argument(*weight, bits, options).value(), bits, options).values;
    std::ranges::copy(kernels::convert(values, DType::f32).span<float>(),
                      weight->mutable_value().mutable_data<float>());
  });
}

std::map<std::string, LayerPlan> plan_of(Model& model) {
  std::map<std::string, LayerPlan> plan;
  for (const LayerPlan& row : layer_plan(model)) plan[row.name] = row;
  return plan;
}

// As in the first of two stages, with gradients in f32.
std::unique_ptr<Model> with_quantized_weights(const Case& c) {
  Calibrated calibrated = calibrated_model(c);
  NumberFormat options;
  options.scheme = c.scheme;
  options.weight_bits = c.weight_bits;
  options.act_bits = c.act_bits;
  options.quantize_activations = false;
  options.grad_format = GradFormat::f32;
  quantize(*calibrated.model, options, &calibrated.seen);
  return std::move(calibrated.model);
}

// The same in floating point: calibrated_model's weights, rounded.
std::unique_ptr<Model> with_rounded_weights(const Case& c, const std::map<std::string, LayerPlan>& plan) {
  auto model = make_model(c.model, {.num_classes = c.classes});
  initialize(*model, 5);
  randomize_norms(*model, c.norms);
  round_weights(*model, c, plan);
  return model;
}

std::vector<Case> one_of_each_kind() {
  return {{.size = 16, .weight_bits = 4, .act_bits = 4},
          {.size = 16, .weight_bits = 2, .scheme = Scheme::dfp},
          {.size = 16, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::dorefa},
          {.size = 16, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
          {.model = "densenet121", .size = 32, .weight_bits = 4, .act_bits = 4},
          {.model = "inception_v3", .size = 299, .weight_bits = 4, .act_bits = 4}};
}

}  // namespace

TEST_CASE("with quantized weights alone a network is that of rounded weights", "[precision]") {
  const OneThread one_thread;
  for (const Case& c : one_of_each_kind()) {
    if (c.size > 100) continue;
    INFO(c);
    const auto quantized = with_quantized_weights(c), rounded = with_rounded_weights(c, plan_of(*quantized));
    const Tensor images = images_for(c, 2);
    CHECK(reference::same_bytes(rounded->forward({}, Var(images)).value(),
                                quantized->forward({}, Var(images)).value()));
  }
}

TEST_CASE("with quantized weights alone gradients are those of rounded weights", "[precision]") {
  const OneThread one_thread;
  for (const Case& c : one_of_each_kind()) {
    if (c.size > 100 || c.scheme == Scheme::lsq) continue;  // lsq masks clipped weights: learned_scale_test
    INFO(c);
    const Tensor images = images_for(c, 3);
    const std::vector<std::int32_t> labels{3, 7, 0};
    const auto gradients = [&](Model& model) {
      backward(training_loss(model.forward_training(training_pass(), Var(images)), labels));
      return parameters(model);
    };
    const auto quantized = with_quantized_weights(c), rounded = with_rounded_weights(c, plan_of(*quantized));
    const auto actual = gradients(*quantized), expected = gradients(*rounded);
    REQUIRE(actual.size() == expected.size());
    for (std::size_t i = 0; i < actual.size(); ++i) {
      INFO(actual[i].name);
      REQUIRE(actual[i].value.grad().defined());
      // Straight through to the master copy; DoReFa's goes on through its tanh.
      if (c.scheme == Scheme::dorefa && actual[i].value.shape().rank() > 1) continue;
      CHECK(kernels::sum_of_squares(expected[i].value.grad()) > 0);
      CHECK(reference::same_bytes(actual[i].value.grad(), expected[i].value.grad()));
    }
  }
}

TEST_CASE("calibration of a quantized network sees the weights it was trained with", "[precision]") {
  const OneThread one_thread;
  for (const Case& c : {Case{.size = 16, .weight_bits = 2, .act_bits = 2},
                        Case{.size = 16, .weight_bits = 2, .scheme = Scheme::dfp}}) {
    INFO(c);
    const auto see = [&](Model& model) {
      return calibrate(model, [&, left = 1]() mutable -> std::optional<Tensor> {
        if (left-- == 0) return {};
        return images_for(c, 2);
      });
    };
    Calibrated calibrated = calibrated_model(c);
    Model& model = *calibrated.model;
    const CalibrationResult before = see(model);
    quantize_as(c, Engine::integer, model, calibrated.seen);
    const Tensor logits = model.forward({}, Var(images_for(c, 2))).value();
    const CalibrationResult seen = see(model);
    // It is as it was: quantized.
    CHECK(reference::same_bytes(model.forward({}, Var(images_for(c, 2))).value(), logits));

    round_weights(model, c, plan_of(model));
    for_each_unit(model, [](const std::string&, Unit& unit) { unit.set_adapter(nullptr); });
    const CalibrationResult rounded = see(model);
    REQUIRE(seen.activations.size() == rounded.activations.size());
    for (const auto& [name, histogram] : rounded.activations) {
      INFO(name);
      CHECK(seen.activations.at(name).max() == histogram.max());
      CHECK(seen.activations.at(name).percentile(50) == histogram.percentile(50));
      if (name != "input") CHECK(before.activations.at(name).max() != histogram.max());
    }
  }
}

TEST_CASE("units draw their precision by themselves", "[precision]") {
  const OneThread one_thread;
  const Case c{.size = 16, .weight_bits = 4, .act_bits = 4};
  const auto model = quantized_model(c);
  const Tensor images = images_for(c, 2);
  // Which units hand on floats in training, step by step.
  const auto drawn = [&](double probability, std::uint64_t seed, std::int64_t step) {
    std::vector<bool> quantized;
    const Var logits = forward_in_training(*model, images, draw_precision(*model, probability, seed, step));
    for (const Var& var : topological_order(logits)) {
      const std::string op = var.op();
      if (op == "norm_act" || op == "conv_norm_act_integer")
        quantized.push_back(var.value().is_fixed_point());
    }
    return quantized;
  };
  CHECK(std::ranges::count(drawn(1, 1, 0), true) == 19);
  CHECK(std::ranges::count(drawn(0, 1, 0), false) == 19);
  const auto some = drawn(0.5, 1, 7);
  CHECK(some.size() == 19);
  CHECK(some == drawn(0.5, 1, 7));
  CHECK(some != drawn(0.5, 1, 8));
  CHECK(some != drawn(0.5, 2, 7));
  std::int64_t count = 0;
  for (int step = 0; step < 100; ++step) count += std::ranges::count(drawn(0.7, 3, step), true);
  CHECK(static_cast<double>(count) / 1900 == Approx(0.7).margin(0.042));  // 4 standard deviations
}

TEST_CASE("the probability of being quantized rises to 1", "[precision]") {
  CHECK(quantized_probability(0.5, 0.2, 0) == 0.5);
  CHECK(quantized_probability(0.5, 0.2, 0.4) == Approx(0.75));
  CHECK(quantized_probability(0.5, 0.2, 0.8) == 1);
  CHECK(quantized_probability(0.5, 0.2, 0.95) == 1);
  CHECK(quantized_probability(0.3, 0, 0.5) == Approx(0.65));
  CHECK(quantized_probability(0.3, 0, 1) == 1);
  CHECK(quantized_probability(0.3, 1, 0) == 1);
  CHECK(quantized_probability(1, 0.2, 0) == 1);
}

TEST_CASE("networks of every kind train in mixed precision", "[precision]") {
  const OneThread one_thread;
  for (const Case& c : one_of_each_kind()) {
    INFO(c);
    const auto model = quantized_model(c);
    const Tensor images = images_for(c, 2);
    for (const double probability : {0.0, 0.5, 1.0}) {
      INFO("probability " << probability);
      const Pass pass = training_pass({.seed = 1, .samples = {0, 1}}, nullptr, GradFormat::f32,
                                      draw_precision(*model, probability, 1, 1));
      for (auto& parameter : parameters(*model)) parameter.value.clear_grad();
      const std::vector<std::int32_t> labels{3, 7};
      const Var loss = training_loss(model->forward_training(pass, Var(images)), labels);
      CHECK(std::isfinite(loss.value().item()));
      backward(loss);
      int without = 0;
      for (auto& parameter : parameters(*model)) {
        without += !parameter.value.grad().defined();
        if (parameter.value.grad().defined()) CHECK(kernels::all_finite(parameter.value.grad()));
      }
      CHECK(without == 0);
    }
  }
}
