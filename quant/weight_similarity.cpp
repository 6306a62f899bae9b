#include "quant/weight_similarity.h"

#include <cmath>

#include "core/kernels/elementwise.h"

namespace faq {
namespace {

// Sums of products of two vectors; a is the baseline.
struct Products {
  double aa = 0, ab = 0, bb = 0;

  void operator+=(const Products& other) {
    aa += other.aa;
    ab += other.ab;
    bb += other.bb;
  }
  double cosine() const { return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : aa == bb ? 1.0 : 0.0; }
};

Products products_of(std::span<const float> a, std::span<const float> b) {
  Products p;
  for (std::size_t i = 0; i < a.size(); ++i) {
    p.aa += static_cast<double>(a[i]) * a[i];
    p.ab += static_cast<double>(a[i]) * b[i];
    p.bb += static_cast<double>(b[i]) * b[i];
  }
  return p;
}

}  // namespace

std::vector<WeightSimilarity> weight_similarity(const IntegerNetwork& network, const NamedTensors& baseline) {
  std::vector<WeightSimilarity> rows;
  Products all;
  double all_by_channel = 0;  // Σ of squared norm · cosine
  WeightSimilarity total{.layer = "all"};
  for (const IntegerNetwork::Node& node : network.nodes()) {
    const QuantizedWeights* quantized = weights_of(*node.op);
    if (!quantized) continue;
    const std::string name = node.op->name + ".weight";
    const Tensor* found = baseline.find(name);
    check(found != nullptr, ErrorKind::bad_data, "baseline: missing ", name);
    const Tensor now = real_values(*quantized);
    check(found->numel() == now.numel() && found->dim(0) == now.dim(0), ErrorKind::bad_data,
          "baseline: ", name, " expected ", now.shape(), " found ", found->shape());
    const Tensor before = kernels::convert(*found, DType::f32);
    const std::size_t channels = static_cast<std::size_t>(now.dim(0)),
                      length = now.span<float>().size() / channels;
    Products layer;
    double by_channel = 0;
    for (std::size_t c = 0; c < channels; ++c) {
      const Products p = products_of(before.span<float>().subspan(c * length, length),
                                     now.span<float>().subspan(c * length, length));
      layer += p;
      by_channel += p.aa * p.cosine();
    }
    rows.push_back({node.op->name, now.numel(), layer.cosine(), layer.aa > 0 ? by_channel / layer.aa : 0});
    all += layer;
    all_by_channel += by_channel;
    total.weights += now.numel();
  }
  total.cosine = all.cosine();
  total.by_channel = all.aa > 0 ? all_by_channel / all.aa : 0;
  rows.push_back(total);
  return rows;
}

}  // namespace faq
