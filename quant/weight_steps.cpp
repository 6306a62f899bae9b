#include "quant/weight_steps.h"

#include <array>
#include <limits>

#include "core/kernels/quantization_error.h"
#include "quant/faq_scheme.h"

namespace faq {
namespace {

WeightStepChoice choice_of(const std::string& layer, const Tensor& weights, const FixedPoint& format) {
  FixedPoint doubled = format, halved = format;
  doubled.step *= 2;
  halved.step /= 2;
  const auto errors = kernels::quantization_errors(weights, std::array{format, doubled, halved});
  const bool up = errors[1] <= errors[2] || halved.step < least_step;
  const double other = up ? errors[1] : errors[2];
  double ratio = 1;
  if (errors[0] > 0)
    ratio = other / errors[0];
  else if (other > 0)
    ratio = std::numeric_limits<double>::infinity();
  return {layer, format, up ? doubled.step : halved.step, ratio};
}

}  // namespace

std::vector<WeightStepChoice> weight_step_choices(Model& model,
                                                  const std::function<void(const WeightStepChoice&)>& look) {
  std::vector<WeightStepChoice> rows;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    auto* quantized = dynamic_cast<QuantizedUnit*>(unit.adapter());
    if (!quantized || quantized->state().weight_bits == 0) return;
    const QuantizedWeights weights = quantized->quantized_weights();
    if (weights.code != WeightCode::fixed_point) return;
    rows.push_back(choice_of(name, quantized->rounded_weights().value(), weights.values.fixed_point()));
    if (!look) return;
    const QuantizerState state = quantized->state();
    QuantizerState other = state;
    other.weight_step = rows.back().other;
    quantized->set_state(other);
    look(rows.back());
    quantized->set_state(state);
  });
  return rows;
}

}  // namespace faq
