#include <algorithm>
#include <cmath>

#include "quant/adapters.h"
#include "quant/faq_scheme.h"
#include "quant/lsq_scheme.h"
#include "quant/scheme.h"

namespace faq {

QuantizedUnit* quantizer_of(const Unit& unit) { return dynamic_cast<QuantizedUnit*>(unit.adapter()); }

void QuantizedUnit::visit(Visitor& visitor) {
  visitor.setting("quantizer", state_);
  if (weight_scale_) visitor.scale("weight_scale", weight_scale_);
  if (has_own_activation_scale_) visitor.scale("activation_scale", activation_scale_);
}

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
  check((s[3] == 0) == !master_weights(), ErrorKind::bad_data, "quantizer of '", name_, "': ", s[3],
        " weight bits for a layer ", master_weights() ? "with" : "without", " weights");
  QuantizerState state{
      {.scale = s[0], .bits = static_cast<int>(s[1]), .is_signed = s[2] != 0}, static_cast<int>(s[3]), s[4]};
  if (activation_scale_) {
    state.activation.scale = activation_scale_.value().item();
    check_scales("activation", activation_scale_.value());
  }
  if (weight_scale_) check_scales("weight", weight_scale_.value());
  return state;
}

void QuantizedUnit::check_scales(const char* what, const Tensor& scales) const {
  for (const float scale : scales.span<float>())
    check(std::isnormal(scale) && scale > 0, ErrorKind::bad_data, "quantizer of '", name_, "': ", what,
          " scale ", scale, " makes no sense");
}

void QuantizedUnit::set_state(const QuantizerState& state) {
  float* s = state_.mutable_data<float>();
  s[0] = state.activation.scale;
  s[1] = static_cast<float>(state.activation.bits);
  s[2] = state.activation.is_signed ? 1.0f : 0.0f;
  s[3] = static_cast<float>(state.weight_bits);
  s[4] = state.weight_scale;
  if (has_own_activation_scale_) *activation_scale_.mutable_value().mutable_data<float>() = s[0];
}

void QuantizedUnit::learn_scales(const QuantizedUnit* activation_of) {
  if (const Var master = master_weights()) {
    const bool by_channel = options_.scale_sharing == ScaleSharing::channel && has_channel_multipliers();
    weight_scale_ = Var(Tensor::full({by_channel ? master.shape()[0] : 1}, 1.0f), true);
  }
  if (!options_.quantize_activations) return;
  has_own_activation_scale_ = activation_of == nullptr;
  activation_scale_ = activation_of ? activation_of->activation_scale_ : Var(Tensor::full({1}, 1.0f), true);
}

void QuantizedUnit::start_scales(const QuantizedUnit* before) {
  const QuantizerState now = state();
  const bool has_before = before && before->has_state();
  const QuantizerState was = has_before ? before->state() : QuantizerState{};
  if (weight_scale_) {
    const bool is_same = has_before && before->weight_scale_ && was.weight_bits == now.weight_bits &&
                         before->weight_scale_.shape() == weight_scale_.shape();
    NumberFormat options = options_;
    if (weight_scale_.value().numel() == 1) options.scale_sharing = ScaleSharing::layer;
    const Tensor start = is_same ? before->weight_scale_.value()
                                 : starting_scales(master_weights().value(), now.weight_bits, options);
    std::ranges::copy(start.span<float>(), weight_scale_.mutable_value().mutable_data<float>());
  }
  if (has_own_activation_scale_ && has_before && before->activation_scale_ &&
      was.activation.bits == now.activation.bits && was.activation.is_signed == now.activation.is_signed)
    *activation_scale_.mutable_value().mutable_data<float>() = was.activation.scale;
}

Var QuantizedUnit::rounded_weights() {
  const Var master = master_weights();
  if (!master) return {};
  const int bits = state().weight_bits;
  if (weight_scale_) return learned_rounding(master, weight_scale_, {.bits = bits, .is_signed = true});
  return rounded_argument(master, bits, options_);
}

const Tensor& QuantizedUnit::learned_weight_scale() const {
  static const Tensor none;
  return weight_scale_ ? weight_scale_.value() : none;
}

Var QuantizedUnit::with_idle_scales(const Pass& pass, const Var& y, UnitPrecision used) const {
  if (!pass.training()) return y;
  const Var idle[] = {used.weights ? Var() : weight_scale_,
                      used.activations || !has_own_activation_scale_ ? Var() : activation_scale_};
  return with_idle(y, idle);
}

QuantizedUnit::IntegerWeights QuantizedUnit::integer_weights(const Var& argument) {
  const QuantizerState quantizer = state();
  const Version version{master_weights().value().version(), quantizer.weight_bits, quantizer.weight_scale,
                        weight_scale_ ? weight_scale_.value().version() : 0};
  return *integers_.get(version, [&] {
    auto made = std::make_shared<IntegerWeights>();
    made->quantized = weight_scale_
                          ? quantize_weights(argument.value(), quantizer.weight_bits, weight_scale_.value())
                          : quantize_weights(argument.value(), quantizer.weight_bits, options_,
                                             quantizer.weight_scale, seen_.get());
    made->packed = {made->quantized.values, made->quantized.channel_scales};
    return made;
  });
}

QuantizedUnit::FloatWeights QuantizedUnit::rounded_float_weights() {
  const Var argument = rounded_weights();
  const kernels::PackedWeights packed = integer_weights(argument).packed.as(DType::f32);
  return {straight_through(argument, packed.values()), packed};
}

QuantizedWeights QuantizedUnit::quantized_weights() { return integer_weights(rounded_weights()).quantized; }

QuantizedUnit::WatchedWeights QuantizedUnit::watched_weights() const {
  if (!has_state() || weight_scale_) return {};
  const QuantizerState quantizer = state();
  const bool is_chosen = quantizer.weight_bits > 0 && quantizer.weight_scale == 0 &&
                         chooses_fixed_point(quantizer.weight_bits, options_);
  return is_chosen ? WatchedWeights{seen_, quantizer.weight_bits, options_.weight_scale} : WatchedWeights{};
}

void QuantizedUnit::hold_weight_scale() {
  QuantizerState held = state();
  if (held.weight_bits == 0 || weight_scale_) return;
  const QuantizedWeights weights = quantized_weights();
  if (weights.code != WeightCode::fixed_point) return;
  held.weight_scale = weights.values.fixed_point().scale;
  set_state(held);
}

}  // namespace faq
