#include "quant/weight_scales.h"

#include <array>
#include <limits>

#include "core/kernels/quantization_error.h"
#include "quant/faq_scheme.h"

namespace faq {
namespace {

WeightScaleChoice choice_of(const std::string& layer, const Tensor& weights, const FixedPoint& format) {
  FixedPoint doubled = format, halved = format;
  doubled.scale *= 2;
  halved.scale /= 2;
  const auto errors = kernels::quantization_errors(weights, std::array{format, doubled, halved});
  const bool up = errors[1] <= errors[2] || halved.scale < least_scale;
  const double other = up ? errors[1] : errors[2];
  double ratio = 1;
  if (errors[0] > 0)
    ratio = other / errors[0];
  else if (other > 0)
    ratio = std::numeric_limits<double>::infinity();
  return {layer, format, up ? doubled.scale : halved.scale, ratio};
}

}  // namespace

std::vector<WeightScaleChoice> weight_scale_choices(
    Model& model, const std::function<void(const WeightScaleChoice&)>& look) {
  std::vector<WeightScaleChoice> rows;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    QuantizedUnit* quantized = quantizer_of(unit);
    if (!quantized || quantized->state().weight_bits == 0 || quantized->learns_weight_scale()) return;
    const QuantizedWeights weights = quantized->quantized_weights();
    if (weights.code != WeightCode::fixed_point) return;
    rows.push_back(choice_of(name, quantized->rounded_weights().value(), weights.values.fixed_point()));
    if (!look) return;
    const QuantizerState state = quantized->state();
    QuantizerState other = state;
    other.weight_scale = rows.back().other;
    quantized->set_state(other);
    look(rows.back());
    quantized->set_state(state);
  });
  return rows;
}

}  // namespace faq
