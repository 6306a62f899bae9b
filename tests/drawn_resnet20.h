// The ResNet-20 and the images of fixtures/make_resnet20.py, drawn on this side.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "core/rng.h"
#include "nn/models.h"

namespace faq::testing {

/// Parameters and buffers as PyTorch's state dict interleaves them.
inline std::vector<Named<Tensor>> state_of(Module& model) {
  struct Collector final : Visitor {
    std::vector<Named<Tensor>> found;
    void on_parameter(const std::string& name, Var& parameter) override {
      found.push_back({name, parameter.value()});
    }
    void on_buffer(const std::string& name, Tensor& buffer) override { found.push_back({name, buffer}); }
  } collector;
  model.visit(collector);
  return std::move(collector.found);
}

/// Every tensor from a generator of its own, by its position in the state dict.
inline std::unique_ptr<Model> drawn_resnet20() {
  const auto drawn = [](const std::string& name, const Shape& shape, double z) {
    if (shape.rank() == 4) return z * std::sqrt(2.0 / (static_cast<double>(shape[1]) * 9));
    if (name.ends_with("running_var")) return 1 + 0.2 * std::abs(z);
    if (name.find("bn") != std::string::npos && name.ends_with(".weight")) return 1 + 0.1 * z;
    return 0.1 * z;
  };
  auto model = make_model("resnet20", {});
  std::uint64_t index = 0;
  for (auto& [name, tensor] : state_of(*model)) {
    Random random(2026, RandomStream::test, index++);
    for (float& x : tensor.mutable_span<float>())
      x = static_cast<float>(drawn(name, tensor.shape(), random.normal()));
  }
  return model;
}

/// Images of the generator Random(2026, test, major).
inline Tensor drawn_images(std::uint64_t major, std::int64_t count) {
  Random random(2026, RandomStream::test, major);
  Tensor pixels = Tensor::empty({count, 32, 32, 3}, DType::u8);
  for (std::uint8_t& p : pixels.mutable_span<std::uint8_t>())
    p = static_cast<std::uint8_t>(random.next_u32() >> 24);
  return pixels;
}

}  // namespace faq::testing
