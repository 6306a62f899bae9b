#include "train/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "core/kernels/elementwise.h"
#include "train/evaluate.h"

namespace faq {
namespace {

double relative_difference(const Tensor& a, const Tensor& b) {
  const Tensor left = kernels::convert(a, DType::f32), right = kernels::convert(b, DType::f32);
  double difference = 0, scale = 0;
  for (std::int64_t i = 0; i < left.numel(); ++i) {
    const double x = left.data<float>()[i], y = right.data<float>()[i];
    difference += (x - y) * (x - y);
    scale += y * y;
  }
  return difference == 0 ? 0 : std::sqrt(difference / scale);
}

std::vector<Comparison::Layer> compare_layers(const std::vector<Network::Layer>& a,
                                              const std::vector<Network::Layer>& b) {
  std::map<std::string, Tensor> others;
  for (const Network::Layer& layer : b) others[layer.name] = layer.value;
  std::vector<Comparison::Layer> layers;
  for (const Network::Layer& layer : a) {
    const auto other = others.find(layer.name);
    if (other == others.end() || other->second.numel() != layer.value.numel()) continue;
    layers.push_back({layer.name, relative_difference(layer.value, other->second)});
  }
  return layers;
}

std::int64_t largest(const Tensor& logits, std::int64_t row) {
  const auto values = logits.rows(row, row + 1).span<float>();
  return std::ranges::max_element(values) - values.begin();
}

}  // namespace

Comparison compare(const Network& a, const Network& b, Loader& loader, RunListener& listener) {
  Comparison result;
  const auto count = [&](const Batch& batch, const Tensor& logits) {
    if (result.images == 0) {
      result.layers = compare_layers(a.layers(batch.images), b.layers(batch.images));
      const auto first =
          std::ranges::find_if(result.layers, [](const auto& layer) { return !(layer.difference == 0); });
      if (first != result.layers.end()) result.first_diverging = first->name;
    }
    const Tensor others = b.forward(batch.images);
    for (std::int64_t i = 0; i < batch.size(); ++i)
      result.agreeing += largest(logits, i) == largest(others, i);
    result.images += batch.size();
  };
  for_each_batch(a.forward, loader, count, listener,
                 [&] { return fmt::format("{} of {} predictions agree", result.agreeing, result.images); });
  return result;
}

}  // namespace faq
