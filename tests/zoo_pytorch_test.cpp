// Every network of the zoo against torchvision's (EfficientNet-Lite: against one in plain PyTorch).
// fixtures/make_zoo.py says what the reference tensors are and how both sides draw weights and images.
#include <algorithm>
#include <cmath>

#include "core/parallel.h"
#include "core/rng.h"
#include "core/safetensors.h"
#include "nn/models.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

constexpr std::uint64_t seed = 2026;

std::uint32_t fnv1a(const std::string& name) {
  std::uint32_t value = 2166136261u;
  for (const char c : name) value = (value ^ static_cast<unsigned char>(c)) * 16777619u;
  return value;
}

void draw(const std::string& name, Tensor& tensor) {
  Random random(seed, RandomStream::test, fnv1a(name));
  const bool is_matrix = tensor.rank() > 1;
  const double fan_in = static_cast<double>(tensor.numel() / tensor.dim(0));
  for (float& x : tensor.mutable_span<float>()) {
    const double u = random.next_u32() * 0x1p-32 - 0.5;
    x = static_cast<float>(is_matrix                        ? 2 * u * std::sqrt(6 / fan_in)
                           : name.ends_with("running_var")  ? 1 + u
                           : name.ends_with("running_mean") ? 0.4 * u
                           : name.ends_with("bias")         ? 0.2 * u
                                                            : 0.6 + 0.6 * u);
  }
}

std::unique_ptr<Model> drawn(const std::string& name) {
  auto model = make_model(name, {.num_classes = 10});
  std::vector<Named<Tensor>> tensors = buffers(*model);
  for (auto& [parameter, var] : parameters(*model)) tensors.push_back({parameter, var.value()});
  parallel_for(static_cast<std::int64_t>(tensors.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) draw(tensors[i].name, tensors[i].value);
  });
  for_each_unit(*model, [](const std::string&, Unit& unit) {
    if (auto* dropout = dynamic_cast<Dropout*>(&unit)) dropout->set_probability(0);
  });
  return model;
}

Var images_for(const ModelInfo& info) {
  Random random(seed, RandomStream::test, 1);
  Tensor pixels = Tensor::empty({2, info.input_size, info.input_size, 3}, DType::u8);
  for (std::uint8_t& p : pixels.mutable_span<std::uint8_t>())
    p = static_cast<std::uint8_t>(random.next_u32() >> 24);
  return Var(pixels);
}

const NamedTensors& fixture() {
  static const NamedTensors file = read_safetensors(FAQ_TEST_FIXTURES "/zoo_pytorch.safetensors");
  return file;
}

std::vector<double> expected(const std::string& name) { return reference::numbers(*fixture().find(name)); }

}  // namespace

TEST_CASE("logits of the zoo are torchvision's", "[zoo][pytorch]") {
  int compared = 0;
  for (const ModelInfo& info : list_models()) {
    if (info.family == "cifar-resnet") continue;  // resnet20_pytorch_test.cpp
    INFO(info.name);
    REQUIRE(fixture().find(info.name + "/logits") != nullptr);
    const auto model = drawn(info.name);
    const NoGrad no_grad;
    const Var logits = model->forward({}, images_for(info));
    CHECK(reference::relative_error(logits.value(), expected(info.name + "/logits")) < 1e-4);
    ++compared;
  }
  CHECK(compared == 20);
}

// PyTorch's own float32 is up to `drift` away from its float64, because a ReLU's input may round to the other
// side of zero; ours may be as far, and is closer in what averages it out. Which inputs do depends on the
// CPU; each moves some gradients by more.
TEST_CASE("gradients of the zoo are torchvision's", "[zoo][pytorch]") {
  for (const ModelInfo& info : list_models()) {
    if (!fixture().find(info.name + "/norms")) continue;
    INFO(info.name);
    const auto model = drawn(info.name);
    const std::vector<std::int32_t> labels{3, 7};
    const Var loss = training_loss(model->forward_training(training_pass(), images_for(info)), labels);
    CHECK(loss.value().item() == Approx(expected(info.name + "/loss")[0]).epsilon(1e-4));
    backward(loss);

    auto sorted = parameters(*model);
    std::ranges::sort(sorted, {}, &Named<Var>::name);
    const auto norms = expected(info.name + "/norms"), samples = expected(info.name + "/samples");
    const double drift = expected(info.name + "/drift")[0];
    REQUIRE(norms.size() == sorted.size());
    double difference = 0, sum = 0, worst_norm = 0;
    std::vector<double> off;  // of the samples
    for (std::size_t p = 0; p < sorted.size(); ++p) {
      INFO(sorted[p].name);
      const auto gradient = reference::numbers(sorted[p].value.grad());
      double squares = 0;
      for (const double g : gradient) squares += g * g;
      const double norm = std::sqrt(squares), count = static_cast<double>(gradient.size());
      // A bias that a normalisation takes away again: that of a convolution in front of one, and that of a
      // linear bottleneck, which goes through another convolution first and leaves rounding errors.
      if (norms[p] < 1e-9) {
        CHECK(norm < 1e-5);
        continue;
      }
      CHECK(std::abs(norm / norms[p] - 1) < 1e-3 + drift);
      worst_norm = std::max(worst_norm, std::abs(norm / norms[p] - 1));
      difference += (norm - norms[p]) * (norm - norms[p]);
      sum += norms[p] * norms[p];
      for (std::size_t i = 0; i < 4; ++i) {
        const double difference_of_sample = gradient[i * 7919 % gradient.size()] - samples[p * 4 + i];
        off.push_back(std::abs(difference_of_sample) / (norms[p] / std::sqrt(count)));
      }
    }
    std::ranges::sort(off);
    const double most = off[off.size() * 98 / 100];
    INFO("norms together " << std::sqrt(difference / sum) << ", worst norm " << worst_norm << ", samples "
                           << most << ", the worst one " << off.back() << ", PyTorch's drift " << drift);
    CHECK(std::sqrt(difference / sum) < 1e-3);
    CHECK(most < 1e-3 + 10 * drift);
    CHECK(off.back() < 0.2);
  }
}
