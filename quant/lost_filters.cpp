#include "quant/lost_filters.h"

#include "quant/adapters.h"

namespace faq {
namespace {

LostFilters lost_in(const std::string& layer, const Tensor& weights, const Tensor& rounded) {
  LostFilters result{.layer = layer, .lost = 0, .filters = weights.dim(0)};
  const std::int64_t length = weights.numel() / weights.dim(0);
  const float* w = weights.data<float>();
  const float* q = rounded.data<float>();
  for (std::int64_t filter = 0; filter < result.filters; ++filter) {
    double error = 0, size = 0;
    for (std::int64_t i = filter * length; i < (filter + 1) * length; ++i) {
      const double difference = static_cast<double>(q[i]) - w[i];
      error += difference * difference;
      size += static_cast<double>(w[i]) * w[i];
    }
    if (error > size) ++result.lost;
  }
  return result;
}

}  // namespace

std::vector<LostFilters> lost_filters(Module& model) {
  std::vector<LostFilters> rows;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    QuantizedUnit* quantized = quantizer_of(unit);
    if (!quantized || quantized->state().weight_bits == 0 || !unit.batch_norm()) return;
    const LostFilters row =
        lost_in(name, quantized->rounded_weights().value(), real_values(quantized->quantized_weights()));
    if (row.lost > 0) rows.push_back(row);
  });
  return rows;
}

}  // namespace faq
