#include <cmath>

#include "quant/adapters.h"
#include "quant/faq_scheme.h"
#include "quant/scheme.h"

namespace faq {

QuantizedUnit* quantizer_of(const Unit& unit) { return dynamic_cast<QuantizedUnit*>(unit.adapter()); }

bool QuantizedUnit::has_state() const {
  const float* s = state_.data<float>();
  return s[0] != 0 || s[1] != 0;
}

QuantizerState QuantizedUnit::state() const {
  const float* s = state_.data<float>();
  check(has_state(), ErrorKind::bad_data, "quantizer of '", name_,
        "': not set, neither by calibration nor by a checkpoint");
  // The values are compared as floats: a damaged file may hold NaN, which cannot be cast to an integer.
  const auto integer_in = [](float x, float low, float high) {
    return x >= low && x <= high && x == std::trunc(x);
  };
  check(std::isnormal(s[0]) && s[0] > 0 && integer_in(s[1], 2, 8) && integer_in(s[2], 0, 1) &&
            (s[3] == 0 || integer_in(s[3], 2, 8)) &&
            (s[4] == 0 || (s[4] >= least_scale && std::isfinite(s[4]))),
        ErrorKind::bad_data, "quantizer of '", name_, "': scale ", s[0], ", ", s[1], " bits, sign ", s[2],
        ", ", s[3], " weight bits, weight scale ", s[4], " make no sense");
  return {
      {.scale = s[0], .bits = static_cast<int>(s[1]), .is_signed = s[2] != 0}, static_cast<int>(s[3]), s[4]};
}

void QuantizedUnit::set_state(const QuantizerState& state) {
  float* s = state_.mutable_data<float>();
  s[0] = state.activation.scale;
  s[1] = static_cast<float>(state.activation.bits);
  s[2] = state.activation.is_signed ? 1.0f : 0.0f;
  s[3] = static_cast<float>(state.weight_bits);
  s[4] = state.weight_scale;
}

Var QuantizedUnit::rounded_weights() {
  const Var master = master_weights();
  return master ? rounded_argument(master, state().weight_bits, options_) : Var();
}

QuantizedUnit::IntegerWeights QuantizedUnit::integer_weights(const Var& argument) {
  const QuantizerState quantizer = state();
  const Version version{master_weights().value().version(), quantizer.weight_bits, quantizer.weight_scale};
  return *integers_.get(version, [&] {
    auto made = std::make_shared<IntegerWeights>();
    made->quantized =
        quantize_weights(argument.value(), quantizer.weight_bits, options_, quantizer.weight_scale);
    made->packed = made->quantized.values;
    return made;
  });
}

QuantizedUnit::FloatWeights QuantizedUnit::rounded_float_weights() {
  const Var argument = rounded_weights();
  const kernels::PackedWeights packed = integer_weights(argument).packed.as(DType::f32);
  return {straight_through(argument, packed.values()), packed};
}

QuantizedWeights QuantizedUnit::quantized_weights() { return integer_weights(rounded_weights()).quantized; }

void QuantizedUnit::hold_weight_scale() {
  QuantizerState held = state();
  if (held.weight_bits == 0) return;
  const QuantizedWeights weights = quantized_weights();
  if (weights.code != WeightCode::fixed_point) return;
  held.weight_scale = weights.values.fixed_point().scale;
  set_state(held);
}

}  // namespace faq
