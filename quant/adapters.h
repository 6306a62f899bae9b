// Quantized execution of units: integer kernels in the training forward, integer ops in evaluation.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "nn/units.h"
#include "quant/deploy/integer_op.h"
#include "quant/number_format.h"

namespace faq {

/// What a unit's quantizer is set to. Lives in a tensor so that checkpoints carry it like any other state.
struct QuantizerState {
  FixedPoint activation;   ///< of the values handed on; for Linear of those taken in
  int weight_bits = 0;     ///< 0: no weights
  float weight_scale = 0;  ///< held; 0: chosen anew at every use
};

/// Base of the adapters that have a quantizer: stored as `quantizer`, f32 [scale, bits, signed, weight bits,
/// weight scale].
class QuantizedUnit : public Adapter {
 public:
  QuantizedUnit(std::string name, const NumberFormat& options) : name_(std::move(name)), options_(options) {}

  void visit(Visitor& visitor) override { visitor.setting("quantizer", state_); }
  /// Whether calibration or a checkpoint has set the quantizer.
  bool has_state() const;
  /// Throws bad_data when a checkpoint has brought values that make no sense, or nothing has set it.
  QuantizerState state() const;
  void set_state(const QuantizerState& state);
  const NumberFormat& options() const { return options_; }

  /// The unit's weights in floating point; undefined for a unit that has none.
  virtual Var master_weights() { return {}; }
  /// What is quantized as the unit's weights, as it is now: a function of them.
  Var rounded_weights();
  /// The integers that gives.
  QuantizedWeights quantized_weights();
  /// From now on the weights keep the scale they have, where it is a scale the scheme chooses from their
  /// values: that of fixed-point weights.
  void hold_weight_scale();

 protected:
  struct IntegerWeights {
    QuantizedWeights quantized;
    kernels::PackedWeights packed;
  };
  /// quantized_weights(), packed for the kernels of both directions; made once for each version of the
  /// weights and each setting of the quantizer. Kept as kernels::WeightPacker does: once several passes use a
  /// version. `argument`: rounded_weights().
  IntegerWeights integer_weights(const Var& argument);

  /// The numbers rounded weights stand for, for kernels in floating point.
  struct FloatWeights {
    Var weights;
    kernels::PackedWeights packed;
  };
  FloatWeights rounded_float_weights();

  /// What the unit is to quantize in this pass.
  UnitPrecision precision_of(const Pass& pass, const Unit& unit) const {
    const UnitPrecision planned = pass.precision_of(unit);
    return {planned.weights, planned.activations && options_.quantize_activations};
  }

  const std::string name_;
  const NumberFormat options_;

 private:
  Tensor state_ = Tensor::zeros({5});
  IntegerWeights kept_;
  bool is_reused_ = false;          ///< the last weights and setting were asked for again
  std::uint64_t kept_version_ = 0;  ///< of the weights kept_ is of
  int kept_bits_ = 0;               ///< and the setting
  float kept_scale_ = 0;
};

/// The adapter of a unit that has a quantizer; null: it has none.
QuantizedUnit* quantizer_of(const Unit& unit);

/// Executes a unit that only moves integers: in training by its own differentiable op, in evaluation by the
/// integer op. For units of your own as well.
class MovingUnit final : public Adapter {
 public:
  MovingUnit(Unit& unit, std::shared_ptr<const IntegerOp> op) : unit_(unit), op_(std::move(op)) {}
  Var forward(const Pass& pass, Inputs inputs) override;

 private:
  Unit& unit_;
  std::shared_ptr<const IntegerOp> op_;
};

/// The adapter for the unit called `name` (Unit::quantized_form); nothing for one that does nothing to
/// integers; throws internal for a kind that has none.
std::shared_ptr<Adapter> make_quantized_adapter(const std::string& name, Unit& unit,
                                                const NumberFormat& options);

}  // namespace faq
