// Networks with learned scales: which scales they have, how these start and learn, what is kept of them.
#include <map>
#include <set>

#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "nn/load_weights.h"
#include "quant/adapters.h"
#include "quant/equalize.h"
#include "quant/lsq_scheme.h"
#include "tests/random_network.h"
#include "train/checkpoint.h"
#include "train/sgd.h"

using namespace faq;
using namespace faq::testing;

namespace {

Case lsq_case(int bits, ScaleSharing sharing = ScaleSharing::layer) {
  return {.size = 16, .weight_bits = bits, .act_bits = bits, .scheme = Scheme::lsq, .scale_sharing = sharing};
}

std::map<std::string, Var> by_name(const std::vector<Named<Var>>& parameters) {
  std::map<std::string, Var> found;
  for (const auto& [name, parameter] : parameters) found.emplace(name, parameter);
  return found;
}

NumberFormat format_of(const Case& c, Engine engine = Engine::integer) {
  NumberFormat format;
  format.scheme = c.scheme;
  format.weight_bits = c.weight_bits;
  format.act_bits = c.act_bits;
  format.scale_sharing = c.scale_sharing;
  format.weight_scale = c.weight_scale;
  format.engine = engine;
  return format;
}

void step(Model& model, Sgd& sgd, const Tensor& images, double lr) {
  const std::vector<std::int32_t> labels{3, 7};
  const RandomKeys keys{.seed = 1, .samples = {0, 1}};
  backward(training_loss(model.forward_training(training_pass(keys), Var(images)), labels));
  sgd.step(lr, 1);
}

std::vector<Named<Tensor>> values_of(Model& model) {
  std::vector<Named<Tensor>> values;
  for (const auto& [name, parameter] : parameters(model)) values.push_back({name, parameter.value().clone()});
  return values;
}

void check_same(const std::vector<Named<Tensor>>& a, const std::vector<Named<Tensor>>& b) {
  REQUIRE(a.size() == b.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    INFO(a[i].name);
    CHECK(a[i].name == b[i].name);
    CHECK(reference::same_bytes(a[i].value, b[i].value));
  }
}

}  // namespace

TEST_CASE("learned scales are parameters of a network", "[lsq]") {
  const OneThread one_thread;
  SECTION("one scale a layer") {
    const auto model = quantized_model(lsq_case(4));
    const auto found = by_name(scales(*model));
    CHECK(found.size() == 2 * 20);  // 19 convolutions and the classifier
    for (const auto& [name, scale] : found) {
      INFO(name);
      CHECK(scale.value().numel() == 1);
      CHECK(scale.value().item() > 0);
      CHECK(by_name(parameters(*model)).contains(name));
    }
    CHECK(found.contains("layer1.0.conv1.weight_scale"));
    CHECK(found.contains("fc.activation_scale"));
    CHECK_FALSE(found.contains("input.activation_scale"));
  }
  SECTION("a scale for each output channel of a convolution") {
    const auto model = quantized_model(lsq_case(4, ScaleSharing::channel));
    const auto found = by_name(scales(*model));
    CHECK(found.at("layer3.0.conv1.weight_scale").value().numel() == 64);
    CHECK(found.at("layer3.0.conv1.activation_scale").value().numel() == 1);
    CHECK(found.at("fc.weight_scale").value().numel() == 1);
  }
  SECTION("values that meet have one scale") {
    // DenseNet's blocks concatenate; a VGG's classifier reads the integers of the layer before it.
    for (const Case& c : {Case{.model = "densenet121", .size = 32, .scheme = Scheme::lsq},
                          Case{.model = "vgg11_bn", .size = 32, .scheme = Scheme::lsq},
                          Case{.model = "inception_v3", .size = 107, .scheme = Scheme::lsq}}) {
      INFO(c);
      Calibrated calibrated = calibrated_model(c);
      quantize_as(c, Engine::integer, *calibrated.model, calibrated.seen);
      std::set<std::string> owners;
      int units = 0;
      for (const LayerPlan& row : layer_plan(*calibrated.model)) {
        ++units;
        if (row.name != "input") owners.insert(calibrated.seen.flow.at(row.name).tied_to);
      }
      std::size_t activations = 0;
      for (const auto& [name, scale] : scales(*calibrated.model))
        activations += name.ends_with(".activation_scale");
      CHECK(activations == owners.size());
      CHECK(owners.size() < static_cast<std::size_t>(units) - 1);
    }
  }
  SECTION("activations that stay in floating point have none") {
    Calibrated calibrated = calibrated_model(lsq_case(4));
    NumberFormat format = format_of(lsq_case(4));
    format.quantize_activations = false;
    quantize(*calibrated.model, format, &calibrated.seen);
    CHECK(scales(*calibrated.model).size() == 20);
  }
}

TEST_CASE("where learned scales start", "[lsq]") {
  const Tensor w = reference::random({4, 3, 3, 3}, 1);
  NumberFormat format;
  format.scheme = Scheme::lsq;
  for (const ScaleSharing sharing : {ScaleSharing::layer, ScaleSharing::channel}) {
    format.scale_sharing = sharing;
    const std::int64_t rows = sharing == ScaleSharing::layer ? 1 : 4;
    for (const int bits : {2, 4, 8}) {
      INFO(rows << " scales, " << bits << " bits");
      const double largest = (1 << (bits - 1)) - 1;
      const auto error_with = [&](const Tensor& scales, double factor) {
        double error = 0;
        for (std::int64_t i = 0; i < w.numel(); ++i) {
          const double s = scales.data<float>()[i / (w.numel() / rows)] * factor, x = w.data<float>()[i];
          error += std::pow(x - s * std::clamp(std::nearbyint(x / s), -largest, largest), 2);
        }
        return error;
      };
      format.weight_scale = WeightScale::mse;
      const Tensor best = starting_scales(w, bits, format);
      REQUIRE(best.shape() == Shape{rows});
      for (const double factor : {0.7, 1.4}) CHECK(error_with(best, 1) < error_with(best, factor));
      format.weight_scale = WeightScale::max;
      const Tensor covering = starting_scales(w, bits, format);
      format.weight_scale = WeightScale::mean;
      const Tensor of_paper = starting_scales(w, bits, format);
      for (std::int64_t row = 0; row < rows; ++row) {
        double max = 0, sum = 0;
        const std::int64_t length = w.numel() / rows;
        for (std::int64_t i = row * length; i < (row + 1) * length; ++i) {
          max = std::max<double>(max, std::abs(w.data<float>()[i]));
          sum += std::abs(w.data<float>()[i]);
        }
        CHECK(covering.data<float>()[row] == Approx(max / largest));
        CHECK(of_paper.data<float>()[row] ==
              Approx(2 * sum / static_cast<double>(length) / std::sqrt(largest)));
      }
    }
  }
  CHECK(starting_scales(Tensor::zeros({4, 3}), 4, {.scheme = Scheme::lsq}).item() == 1);
}

TEST_CASE("scales learn without weight decay and stay positive", "[lsq]") {
  const OneThread one_thread;
  const Case c = lsq_case(4);
  const auto model = quantized_model(c);
  const Tensor images = images_for(c, 2);
  SECTION("decay alone") {
    const auto before = by_name(scales(*model));
    std::map<std::string, float> values;
    for (const auto& [name, scale] : before) values[name] = scale.value().item();
    Sgd sgd(*model, {.momentum = 0, .weight_decay = 0.5});
    for (auto& [name, parameter] : parameters(*model))
      parameter.mutable_grad() = Tensor::zeros(parameter.shape());
    const float weight = parameters(*model).front().value.value().data<float>()[0];
    sgd.step(0.1, 1);
    for (const auto& [name, scale] : before) CHECK(scale.value().item() == values.at(name));
    CHECK(parameters(*model).front().value.value().data<float>()[0] == Approx(0.95f * weight));
  }
  SECTION("steps that are too long") {
    Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 0});
    for (auto& [name, parameter] : parameters(*model))
      parameter.mutable_grad() = Tensor::full(parameter.shape(), name.ends_with("_scale") ? 1e3f : 0.0f);
    std::map<std::string, float> values;
    for (const auto& [name, scale] : scales(*model)) values[name] = scale.value().item();
    sgd.step(1, 1);
    for (const auto& [name, scale] : scales(*model)) CHECK(scale.value().item() == 0.5f * values.at(name));
    CHECK(std::isfinite(model->forward({}, Var(images)).value().data<float>()[0]));
  }
  SECTION("learning moves all of them") {
    const auto before = values_of(*model);
    Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 0});
    step(*model, sgd, images, 0.01);
    const auto after = values_of(*model);
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (!before[i].name.ends_with("_scale")) continue;
      INFO(before[i].name);
      CHECK_FALSE(reference::same_bytes(before[i].value, after[i].value));
    }
  }
}

TEST_CASE("both engines learn the same scales", "[lsq][isa]") {
  const OneThread one_thread;
  for (const ScaleSharing sharing : {ScaleSharing::layer, ScaleSharing::channel}) {
    for (const int bits : {8, 4, 2}) {
      INFO(bits << " bits");
      const Case c = lsq_case(bits, sharing);
      const auto train = [&](Engine engine) {
        const auto model = quantized_model(c, engine);
        Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 1e-4});
        for (int i = 0; i < 2; ++i) step(*model, sgd, images_for(c, 2), 0.01);
        return values_of(*model);
      };
      check_same(train(Engine::integer), train(Engine::simulated));
    }
  }
}

TEST_CASE("learned scales come back from a file", "[lsq]") {
  const OneThread one_thread;
  for (const Case& c : {lsq_case(4), lsq_case(2, ScaleSharing::channel),
                        Case{.model = "densenet121", .size = 32, .scheme = Scheme::lsq}}) {
    INFO(c);
    const auto model = quantized_model(c);
    const Tensor images = images_for(c, 2);
    Sgd sgd(*model, {.momentum = 0.9, .weight_decay = 0});
    step(*model, sgd, images, 0.001);
    NamedTensors file;
    export_weights(*model, file);

    const auto other = make_model(c.model, {.num_classes = c.classes});
    quantize(*other, format_of(c), nullptr);
    load_weights(*other, file, {.source = "file"});
    CHECK(reference::same_bytes(other->forward({}, Var(images)).value(),
                                model->forward({}, Var(images)).value()));
    Sgd again(*model, {}), anew(*other, {});
    step(*model, again, images, 0.001);
    step(*other, anew, images, 0.001);
    check_same(values_of(*model), values_of(*other));

    // Another run starts from the weights alone.
    const NamedTensors weights = weights_in(file);
    const auto plain = make_model(c.model, {.num_classes = c.classes});
    CHECK_NOTHROW(load_weights(*plain, weights, {.source = "weights"}));
  }
}

TEST_CASE("a scale that makes no sense is refused", "[lsq]") {
  const OneThread one_thread;
  const Case c = lsq_case(4);
  for (const char* name : {"layer1.0.conv1.weight_scale", "layer1.0.conv1.activation_scale"}) {
    for (const float bad : {0.0f, -1.0f, 1e-40f, std::numeric_limits<float>::infinity()}) {
      INFO(name << " " << bad);
      const auto model = quantized_model(c);
      by_name(scales(*model)).at(name).mutable_value().mutable_data<float>()[0] = bad;
      check_error(ErrorKind::bad_data, "makes no sense", [&] { model->forward({}, Var(images_for(c, 1))); });
    }
  }
}

TEST_CASE("what a phase has learned for as many bits the next one keeps", "[lsq]") {
  const OneThread one_thread;
  const Case c = lsq_case(4);
  Calibrated calibrated = calibrated_model(c);
  Model& model = *calibrated.model;
  quantize(model, format_of(c), &calibrated.seen);
  for (auto& [name, scale] : scales(model)) *scale.mutable_value().mutable_data<float>() *= 1.25f;
  const auto learned = by_name(scales(model));
  NumberFormat fewer = format_of(c);
  fewer.weight_bits = 3;
  quantize(model, fewer, &calibrated.seen);
  const auto now = by_name(scales(model));
  REQUIRE(now.size() == learned.size());
  const auto same = [&](const char* name) {
    return reference::same_bytes(now.at(name).value(), learned.at(name).value());
  };
  CHECK_FALSE(same("layer1.0.conv1.weight_scale"));  // 3 bits
  CHECK(same("layer1.0.conv1.activation_scale"));
  CHECK(same("conv1.weight_scale"));  // 8 bits, as before
  CHECK(same("fc.activation_scale"));
}

TEST_CASE("units that a step leaves in floating point hand on gradients of their scales", "[lsq]") {
  const OneThread one_thread;
  for (const Case& c :
       {lsq_case(4), lsq_case(2, ScaleSharing::channel),
        Case{.model = "densenet121", .size = 32, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq},
        Case{.model = "vgg11_bn", .size = 32, .weight_bits = 4, .act_bits = 4, .scheme = Scheme::lsq}}) {
    INFO(c);
    const auto model = quantized_model(c);
    for (const double probability : {0.0, 0.5, 1.0}) {
      INFO("probability " << probability);
      for (auto& parameter : parameters(*model)) parameter.value.clear_grad();
      const Pass pass = training_pass({.seed = 1, .samples = {0, 1}}, nullptr, GradFormat::f32,
                                      draw_precision(*model, probability, 1, 1));
      const std::vector<std::int32_t> labels{3, 7};
      std::map<const void*, int> calls;
      backward(training_loss(model->forward_training(pass, Var(images_for(c, 2))), labels),
               [&](Var& leaf) { ++calls[leaf.id()]; });
      int zero = 0;
      for (auto& [name, parameter] : parameters(*model)) {
        INFO(name);
        CHECK(calls[parameter.id()] == 1);
        REQUIRE(parameter.grad().defined());
        if (name.ends_with("_scale")) zero += kernels::sum_of_squares(parameter.grad()) == 0;
      }
      const auto all = static_cast<int>(scales(*model).size());
      if (probability == 0) CHECK(zero == all);
      if (probability == 0.5) CHECK(zero > 0);
      if (probability == 1) CHECK(zero < all / 2);
    }
  }
}

TEST_CASE("one scale a layer may start from equalized channels", "[lsq]") {
  const OneThread one_thread;
  const Case c = lsq_case(4);
  const auto model = quantized_model(c);
  const auto error_of = [](Unit& unit) {
    QuantizedUnit& quantized = *quantizer_of(unit);
    const Tensor w = quantized.rounded_weights().value(), q = real_values(quantized.quantized_weights());
    double error = 0, size = 0;
    for (std::int64_t i = 0; i < w.numel(); ++i) {
      error += std::pow(static_cast<double>(w.data<float>()[i]) - q.data<float>()[i], 2);
      size += std::pow(static_cast<double>(w.data<float>()[i]), 2);
    }
    return error / size;
  };
  const std::string layer = "layer1.0.conv1";
  // Channels of unlike ranges, as pretrained networks have them.
  double before = 0, after = 0;
  for_each_unit(*model, [&](const std::string& name, Unit& unit) {
    if (name != layer) return;
    Tensor& w = unit.weights()->mutable_value();
    const std::int64_t length = w.numel() / w.dim(0);
    float* values = w.mutable_data<float>();
    for (std::int64_t i = 0; i < w.numel(); ++i) values[i] *= i / length % 2 ? 1.0f : 0.4f;
    quantizer_of(unit)->start_scales(nullptr);
    before = error_of(unit);
  });
  const Tensor activation = by_name(scales(*model)).at(layer + ".activation_scale").value().clone();
  equalize_channels(*model);
  for_each_unit(*model, [&](const std::string& name, Unit& unit) {
    if (name == layer) after = error_of(unit);
  });
  CHECK(after < 0.8 * before);
  CHECK(reference::same_bytes(by_name(scales(*model)).at(layer + ".activation_scale").value(), activation));
}
