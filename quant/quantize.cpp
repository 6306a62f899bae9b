#include "quant/quantize.h"

#include <algorithm>
#include <map>

#include "core/rng.h"
#include "core/text.h"
#include "quant/adapters.h"
#include "quant/scheme.h"

namespace faq {
namespace {

// The network's input is always 8 bits, signed (FAQ, section 2.2).
constexpr int input_bits = 8;
// Values that are kept between units without being multiplied by weights (DenseNet's features) have 8 bits
// too: fewer bits would cost accuracy and save no arithmetic.
constexpr int memory_bits = 8;

// A unit with a quantizer.
struct PlannedUnit {
  std::string name;
  UnitRole role;
  const LayerBits* wanted = nullptr;  ///< the last override that matches, if any
};

bool has_quantizer(UnitRole role) {
  return role == UnitRole::input || role == UnitRole::convolution || role == UnitRole::normalization ||
         role == UnitRole::linear;
}

// Computes the settings of every quantizer of a model, before any adapter is installed.
class Planner {
 public:
  Planner(Model& model, const NumberFormat& options, const CalibrationResult& calibration)
      : options_(options), calibration_(calibration) {
    for_each_unit(model, [&](const std::string& name, Unit& unit) {
      if (unit.training_only() || !has_quantizer(unit.role())) return;
      const bool is_input = unit.role() == UnitRole::input;
      units_.push_back({name, unit.role(), is_input ? nullptr : last_match(name)});
    });
    const auto first = std::ranges::find(units_, UnitRole::convolution, &PlannedUnit::role);
    if (first != units_.end()) first_conv_ = first->name;
    check_overrides();
    check_residuals();
    agree();
  }

  std::map<std::string, QuantizerState> states() const {
    std::map<std::string, QuantizerState> states;
    for (const PlannedUnit& unit : units_) states[unit.name] = {format_of(unit), weight_bits(unit)};
    return states;
  }

 private:
  const LayerBits* last_match(const std::string& name) const {
    const LayerBits* last = nullptr;
    for (const LayerBits& bits : options_.layer_bits)
      if (matches(bits.pattern, name)) last = &bits;
    return last;
  }

  // An override that matches no unit is an error.
  void check_overrides() const {
    std::vector<std::string> names;
    for (const PlannedUnit& unit : units_)
      if (unit.role != UnitRole::input) names.push_back(unit.name);
    for (const LayerBits& wanted : options_.layer_bits) {
      const bool used =
          std::ranges::any_of(names, [&](const std::string& name) { return matches(wanted.pattern, name); });
      check(used, ErrorKind::usage, "`layer_bits` ", wanted.pattern, "=", wanted.weight_bits, ",",
            wanted.act_bits, ": no layer has that name; did you mean '", nearest(wanted.pattern, names),
            "'?");
    }
  }

  void check_residuals() const {
    const auto in_sum = [](const auto& named) { return named.second.in_sum; };
    check(options_.residual_bits == 0 || std::ranges::any_of(calibration_.flow, in_sum), ErrorKind::usage,
          "`residual_bits` ", options_.residual_bits, ": the network has no residual connections");
  }

  // Tied units share the activation bits that an override gives to any of them.
  void agree() {
    for (const PlannedUnit& unit : units_) {
      if (!unit.wanted) continue;
      const auto [place, is_first] = chosen_.emplace(flow_of(unit).tied_to, &unit);
      const PlannedUnit& other = *place->second;
      check(is_first || unit.wanted->act_bits == other.wanted->act_bits, ErrorKind::usage, "`layer_bits`: '",
            other.name, "' and '", unit.name, "' share their activations, which ", other.wanted->pattern, "=",
            other.wanted->weight_bits, ",", other.wanted->act_bits, " and ", unit.wanted->pattern, "=",
            unit.wanted->weight_bits, ",", unit.wanted->act_bits, " give different bits");
    }
  }

  FixedPoint format_of(const PlannedUnit& unit) const {
    const Histogram& seen = calibration_.histogram(unit.name);
    // Pixels have a bounded range: clipping it gains nothing.
    NumberFormat at_maximum = options_;
    at_maximum.calibration = Calibration::max;
    return unit.role == UnitRole::input
               ? activation_format(seen, input_bits, true, at_maximum)
               : activation_format(seen, act_bits(unit), flow_of(unit).is_signed, options_);
  }

  // In rising priority: the general bits, those of residual connections, those of the last layer's input, the
  // override.
  int act_bits(const PlannedUnit& unit) const {
    const UnitFlow& flow = flow_of(unit);
    const auto chosen = chosen_.find(flow.tied_to);
    if (chosen != chosen_.end()) return chosen->second->wanted->act_bits;
    if (flow.read_by_norm && !flow.read_by_conv) return memory_bits;
    if (flow.read_by_classifier && !flow.read_by_conv) return options_.first_last_bits;
    if (flow.in_sum && options_.residual_bits > 0) return options_.residual_bits;
    return options_.act_bits;
  }

  // In rising priority: the general bits, the bits of the first and last layer, the override. 0 for a unit
  // without weights.
  int weight_bits(const PlannedUnit& unit) const {
    const bool is_linear = unit.role == UnitRole::linear;
    if (unit.role != UnitRole::convolution && !is_linear) return 0;
    if (unit.wanted) return unit.wanted->weight_bits;
    return is_linear || unit.name == first_conv_ ? options_.first_last_bits : options_.weight_bits;
  }

  const UnitFlow& flow_of(const PlannedUnit& unit) const {
    const auto found = calibration_.flow.find(unit.name);
    check(found != calibration_.flow.end(), "quantize: calibration has not seen '", unit.name, "'");
    return found->second;
  }

  const NumberFormat& options_;
  const CalibrationResult& calibration_;
  std::vector<PlannedUnit> units_;
  std::string first_conv_;
  std::map<std::string, const PlannedUnit*> chosen_;  ///< by tied_to: the unit whose override counts
};

// Weights keep their held scale if neither the scheme nor their bits change.
QuantizerState with_held_scale(QuantizerState state, const Unit& unit, Scheme scheme) {
  const QuantizedUnit* before = quantizer_of(unit);
  if (before && before->has_state() && before->options().scheme == scheme &&
      before->state().weight_bits == state.weight_bits)
    state.weight_scale = before->state().weight_scale;
  return state;
}

// The flow of a model that has not been calibrated. It does not depend on the size of the images.
std::map<std::string, UnitFlow> flow_of(Model& model) {
  std::int64_t channels = 0;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    unit.set_adapter(nullptr);  // one without settings cannot run
    if (const auto* input = dynamic_cast<const Input*>(&unit)) channels = input->channels();
  });
  const std::int64_t size = model.info().input_size;
  check(size > 0, ErrorKind::usage,
        "quantize: a model that is not from the zoo needs calibration to learn scales");
  return trace_flow(model, Tensor::zeros({1, size, size, channels}, DType::u8));
}

// Makes the scales of all units parameters. Units that are tied share the scale of their activations. That of
// the network's input stays what the pixels' range makes it.
void learn_scales(Model& model, const std::map<std::string, UnitFlow>& flow) {
  std::map<std::string, QuantizedUnit*> quantized;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    if (QuantizedUnit* one = quantizer_of(unit)) quantized[name] = one;
  });
  const auto learn = [&](bool owners) {
    for_each_unit(model, [&](const std::string& name, Unit& unit) {
      if (!quantized.contains(name) || unit.role() == UnitRole::input) return;
      const auto found = flow.find(name);
      check(found != flow.end(), "quantize: '", name, "' has no part in the network");
      const std::string& tied_to = found->second.tied_to;
      if (owners != (tied_to == name)) return;
      quantized[name]->learn_scales(owners ? nullptr : quantized.at(tied_to));
    });
  };
  learn(true);
  learn(false);
}

}  // namespace

void quantize(Model& model, const NumberFormat& options, const CalibrationResult* calibration) {
  check(options.scheme != Scheme::none, "quantize: no scheme");
  check_bits("weight_bits", options.weight_bits);
  check_bits("act_bits", options.act_bits);
  check_bits("first_last_bits", options.first_last_bits);
  if (options.residual_bits != 0) check_bits("residual_bits", options.residual_bits);
  for (const LayerBits& layer : options.layer_bits) {
    check_bits("layer_bits", layer.weight_bits);
    check_bits("layer_bits", layer.act_bits);
  }
  const bool learns = options.scheme == Scheme::lsq;
  std::map<std::string, QuantizerState> states;
  std::map<std::string, UnitFlow> flow;
  if (calibration) {
    states = Planner(model, options, *calibration).states();
    flow = calibration->flow;
  } else if (learns) {
    flow = flow_of(model);
  }
  std::map<std::string, std::shared_ptr<Adapter>> before;
  std::uint32_t position = 0;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    ++position;
    if (unit.training_only()) return;
    auto adapter = make_quantized_adapter(name, unit, options);
    const auto state = states.find(name);
    if (state != states.end()) state->second = with_held_scale(state->second, unit, options.scheme);
    before[name] = unit.share_adapter();
    unit.set_adapter(std::move(adapter));
    if (QuantizedUnit* quantized = quantizer_of(unit)) quantized->set_position(position);
  });
  if (learns) learn_scales(model, flow);
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    const auto state = states.find(name);
    if (unit.training_only() || state == states.end()) return;
    QuantizedUnit& quantized = *quantizer_of(unit);
    quantized.set_state(state->second);
    if (learns) quantized.start_scales(dynamic_cast<const QuantizedUnit*>(before[name].get()));
  });
}

void hold_weight_scales(Model& model) {
  for_each_unit(model, [](const std::string&, Unit& unit) {
    if (QuantizedUnit* quantized = quantizer_of(unit)) quantized->hold_weight_scale();
  });
}

double quantized_probability(double start, double tail, double done) {
  const double rising = 1 - tail;
  return done >= rising ? 1.0 : start + (1 - start) * done / rising;
}

PrecisionPlan draw_precision(Model& model, double quantized, std::uint64_t seed, std::int64_t step) {
  PrecisionPlan plan;
  std::uint64_t position = 0;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    ++position;
    if (!quantizer_of(unit) || unit.role() == UnitRole::input) return;
    Random random(seed, RandomStream::precision, static_cast<std::uint64_t>(step), position);
    if (random.uniform() >= quantized) plan.exceptions.insert(&unit);
  });
  return plan;
}

std::vector<LayerPlan> layer_plan(Model& model) {
  std::vector<LayerPlan> rows;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    if (const QuantizedUnit* quantized = quantizer_of(unit)) {
      const QuantizerState state = quantized->state();
      rows.push_back({name, state.weight_bits, state.activation});
    }
  });
  return rows;
}

}  // namespace faq
