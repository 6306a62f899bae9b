#include "quant/quantize.h"

#include <algorithm>

#include "core/rng.h"
#include "core/text.h"
#include "quant/adapters.h"
#include "quant/scheme.h"

namespace faq {
namespace {

// '*' matches any run of characters, '?' any one. Only the last star met may have to take in more: what an
// earlier one could take in as well, this one can.
bool matches(const char* pattern, const char* text) {
  const char* star = nullptr;  // behind it
  const char* resume = nullptr;
  while (*text != '\0') {
    if (*pattern == '*') {
      star = ++pattern;
      resume = text;
    } else if (*pattern == '?' || *pattern == *text) {
      ++pattern;
      ++text;
    } else if (star) {
      pattern = star;
      text = ++resume;
    } else {
      return false;
    }
  }
  while (*pattern == '*') ++pattern;
  return *pattern == '\0';
}

// The network's input is always 8 bits, signed (FAQ, section 2.2).
constexpr int input_bits = 8;
// And so is what is kept between units without being multiplied by weights (DenseNet's features): fewer would
// cost accuracy and save no arithmetic.
constexpr int memory_bits = 8;

// Bits of one unit: the general ones, those of the first and last layer, then the overrides.
struct Bits {
  int weights;
  int activations;
};

struct Position {
  bool is_first = false;          // the first convolution: its weights
  bool is_last = false;           // the classifier: its weights and its input
  bool feeds_classifier = false;  // the last convolution: what it hands on
  bool feeds_norm = false;        // read by normalisations only, which make what convolutions read
};

Bits bits_of(const std::string& name, const Position& position, const QuantOptions& options) {
  Bits bits{options.weight_bits, options.act_bits};
  if (position.is_first || position.is_last) bits.weights = options.first_last_bits;
  if (position.is_last || position.feeds_classifier) bits.activations = options.first_last_bits;
  if (position.feeds_norm) bits.activations = memory_bits;
  for (const LayerBits& override_bits : options.layer_bits) {
    if (matches(override_bits.pattern.c_str(), name.c_str()))
      bits = {override_bits.weight_bits, override_bits.act_bits};
  }
  return bits;
}

class Planner {
 public:
  Planner(const QuantOptions& options, const CalibrationResult& calibration)
      : options_(options), calibration_(calibration) {}

  QuantizerState state(const std::string& name, const Unit& unit) {
    const Histogram& seen = calibration_.histogram(name);
    if (dynamic_cast<const Input*>(&unit)) {
      return {activation_format(seen, input_bits, true, at_maximum()), 0};
    }
    names_.push_back(name);
    const bool is_linear = dynamic_cast<const Linear*>(&unit) != nullptr;
    const bool has_weights = is_linear || dynamic_cast<const ConvUnit*>(&unit) != nullptr;
    const UnitFlow flow = is_linear ? UnitFlow{} : calibration_.flow.at(name);
    const Bits bits = bits_of(name,
                              {.is_first = has_weights && !is_linear && !std::exchange(first_seen_, true),
                               .is_last = is_linear,
                               .feeds_classifier = flow.read_by_classifier && !flow.read_by_conv,
                               .feeds_norm = flow.read_by_norm && !flow.read_by_conv},
                              options_);
    return {activation_format(seen, bits.activations, seen.has_negative(), options_),
            has_weights ? bits.weights : 0};
  }

  /// After all units: an override that was meant for none of them is a mistake.
  void check_overrides() const {
    for (const LayerBits& wanted : options_.layer_bits) {
      const bool used = std::ranges::any_of(
          names_, [&](const std::string& name) { return matches(wanted.pattern.c_str(), name.c_str()); });
      check(used, ErrorKind::usage, "--layer-bits ", wanted.pattern, "=", wanted.weight_bits, ",",
            wanted.act_bits, ": no layer has that name; did you mean '", nearest(wanted.pattern, names_),
            "'?");
    }
  }

 private:
  // Pixels have a bounded range: nothing is gained by clipping it.
  QuantOptions at_maximum() const {
    QuantOptions options = options_;
    options.calibration = Calibration::max;
    return options;
  }

  const QuantOptions& options_;
  const CalibrationResult& calibration_;
  std::vector<std::string> names_;  ///< of the units whose bits are chosen
  bool first_seen_ = false;
};

}  // namespace

void quantize(Model& model, const QuantOptions& options, const CalibrationResult* calibration) {
  check(options.scheme != Scheme::none, "quantize: no scheme");
  std::optional<Planner> planner;
  if (calibration) planner.emplace(options, *calibration);
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    if (unit.training_only()) return;
    auto adapter = make_quantized_adapter(name, unit, options);
    if (auto* quantized = dynamic_cast<QuantizedUnit*>(adapter.get()); quantized && planner) {
      quantized->set_state(planner->state(name, unit));
    }
    unit.set_adapter(std::move(adapter));
  });
  if (planner) planner->check_overrides();
}

double quantized_probability(double start, double tail, double done) {
  const double rising = 1 - tail;
  return done >= rising ? 1.0 : start + (1 - start) * done / rising;
}

void draw_precision(Model& model, double quantized, std::uint64_t seed, std::int64_t step) {
  std::uint64_t position = 0;
  for_each_unit(model, [&](const std::string&, Unit& unit) {
    ++position;
    auto* adapter = dynamic_cast<QuantizedUnit*>(unit.adapter());
    if (!adapter || dynamic_cast<Input*>(&unit)) return;
    Random random(seed, RandomStream::precision, static_cast<std::uint64_t>(step), position);
    adapter->set_full_precision(random.uniform() >= quantized);
  });
}

std::vector<LayerPlan> layer_plan(Model& model) {
  std::vector<LayerPlan> rows;
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    if (const auto* quantized = dynamic_cast<const QuantizedUnit*>(unit.adapter())) {
      const QuantizerState state = quantized->state();
      rows.push_back({name, state.weight_bits, state.activation});
    }
  });
  return rows;
}

}  // namespace faq
