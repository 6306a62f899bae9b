// A training step with learned scales agrees with PyTorch's. fixtures/make_lsq.py says what the reference
// tensors are.
#include <algorithm>
#include <cmath>

#include "core/safetensors.h"
#include "quant/adapters.h"
#include "quant/calibration.h"
#include "quant/quantize.h"
#include "tests/catch.h"
#include "tests/drawn_resnet20.h"
#include "tests/ops_common.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

constexpr std::uint64_t images_major = 2023;
const std::vector<std::int32_t> labels{3, 7};

std::vector<double> expected(const std::string& name) {
  static const NamedTensors file = read_safetensors(FAQ_TEST_FIXTURES "/lsq_pytorch.safetensors");
  const Tensor* t = file.find(name);
  REQUIRE(t);
  return reference::numbers(*t);
}

std::vector<Named<Var>> sorted(std::vector<Named<Var>> parameters) {
  std::ranges::sort(parameters, {}, &Named<Var>::name);
  return parameters;
}

// The worst relative error of any: scales differ by powers of ten.
double worst_error(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double worst = 0;
  for (std::size_t i = 0; i < found.size(); ++i)
    worst = std::max(worst, std::abs(found[i] - expected[i]) / (std::abs(expected[i]) + 1e-6));
  return worst;
}

double norm_of_error(const std::vector<double>& found, const std::vector<double>& expected) {
  REQUIRE(found.size() == expected.size());
  double squares = 0, size = 0;
  for (std::size_t i = 0; i < found.size(); ++i) {
    squares += std::pow(found[i] - expected[i], 2);
    size += std::pow(expected[i], 2);
  }
  return std::sqrt(squares / size);
}

// The network of the reference, with its scales.
std::unique_ptr<Model> network(const std::string& name, int bits, ScaleSharing sharing, GradFormat grads) {
  auto model = drawn_resnet20();
  CalibrationResult seen = calibrate(*model, [left = 1]() mutable -> std::optional<Tensor> {
    if (left-- == 0) return {};
    return drawn_images(images_major, 2);
  });
  NumberFormat format;
  format.scheme = Scheme::lsq;
  format.weight_bits = format.act_bits = bits;
  format.scale_sharing = sharing;
  format.grad_format = grads;
  quantize(*model, format, &seen);
  for_each_unit(*model, [](const std::string&, Unit& unit) {
    if (unit.role() != UnitRole::input) return;
    const auto scale = static_cast<float>(expected("input_scale").front());
    quantizer_of(unit)->set_state({.activation = {.scale = scale, .bits = 8, .is_signed = true}});
  });
  const std::vector<double> start = expected(name + "/scales");
  auto value = start.begin();
  for (auto& [of, scale] : sorted(scales(*model)))
    for (float& x : scale.mutable_value().mutable_span<float>()) x = static_cast<float>(*value++);
  CHECK(value == start.end());
  return model;
}

}  // namespace

TEST_CASE("learned scales agree with PyTorch: one training step", "[lsq][isa]") {
  struct Row {
    const char* name;
    int bits;
    ScaleSharing sharing;
  };
  for (const Row& row :
       {Row{"4-layer", 4, ScaleSharing::layer}, Row{"2-channel", 2, ScaleSharing::channel}}) {
    for (const GradFormat& grads : gradient_formats()) {
      INFO(row.name << ", gradients " << grads);
      const auto model = network(row.name, row.bits, row.sharing, grads);
      const Var loss = cross_entropy(forward_in_training(*model, drawn_images(images_major, 2)), labels);
      const std::string name = row.name;
      CHECK(loss.value().item() == Approx(expected(name + "/loss").front()).epsilon(1e-6));
      backward(loss);

      const std::vector<double> expected_samples = expected(name + "/samples");
      std::vector<double> of_scales, norms;
      std::size_t samples = 0;
      double worst_sample = 0;
      for (auto& [of, parameter] : sorted(parameters(*model))) {
        const std::vector<double> gradient = reference::numbers(parameter.grad());
        if (of.ends_with("_scale")) {
          of_scales.insert(of_scales.end(), gradient.begin(), gradient.end());
          continue;
        }
        double squares = 0;
        for (const double g : gradient) squares += g * g;
        norms.push_back(std::sqrt(squares));
        // Of the norm of an element: samples may be next to nothing.
        const double unit = std::sqrt(squares / static_cast<double>(gradient.size()));
        for (std::size_t i = 0; i < 4; ++i) {
          const double expected_sample = expected_samples.at(samples++);
          worst_sample =
              std::max(worst_sample, std::abs(gradient[i * 7919 % gradient.size()] - expected_sample) / unit);
        }
      }
      const std::vector<double> expected_scales = expected(name + "/scale_gradients");
      const std::vector<double> expected_norms = expected(name + "/norms");
      UNSCOPED_INFO("scales " << worst_error(of_scales, expected_scales) << ", "
                              << norm_of_error(of_scales, expected_scales) << ", norms "
                              << worst_error(norms, expected_norms) << ", samples " << worst_sample);
      CHECK(samples == expected_samples.size());
      if (grads == GradFormat::f32) {
        CHECK(worst_error(of_scales, expected_scales) < 1e-3);
        CHECK(worst_error(norms, expected_norms) < 1e-3);
        CHECK(worst_sample < 1e-3);
      } else {  // what is left of sums whose terms cancel is noise
        CHECK(norm_of_error(of_scales, expected_scales) < 0.02);
        CHECK(worst_error(norms, expected_norms) < 0.02);
        CHECK(worst_sample < 0.1);
      }
    }
  }
}
