// Quantized execution of units: integer kernels in the training forward, integer ops in evaluation.
#pragma once

#include <memory>
#include <string>

#include "core/reused.h"
#include "nn/units.h"
#include "quant/deploy/integer_op.h"
#include "quant/number_format.h"

namespace faq {

/// The settings of a unit's quantizer. They are stored in a tensor, so checkpoints save and load them like
/// any other state.
struct QuantizerState {
  FixedPoint activation;   ///< of the unit's output; for Linear, of its input
  int weight_bits = 0;     ///< 0: the unit has no weights
  float weight_scale = 0;  ///< held scale; 0: no held scale, it is chosen at every use
};

/// Base of the adapters that have a quantizer. Checkpoints store the quantizer as `quantizer`, f32 [scale,
/// bits, signed, weight bits, weight scale].
class QuantizedUnit : public Adapter {
 public:
  QuantizedUnit(std::string name, const NumberFormat& options) : name_(std::move(name)), options_(options) {}

  void visit(Visitor& visitor) override { visitor.setting("quantizer", state_); }
  /// True once calibration or a checkpoint has set the quantizer.
  bool has_state() const;
  /// Returns the settings. Throws bad_data when nothing has set them, or when a checkpoint holds values that
  /// make no sense.
  QuantizerState state() const;
  void set_state(const QuantizerState& state);
  const NumberFormat& options() const { return options_; }

  /// The unit's weights in floating point; undefined for a unit that has none.
  virtual Var master_weights() { return {}; }
  /// The values that are rounded to integers, computed from the weights as they are now (rounded_argument in
  /// quant/scheme.h); undefined for a unit that has no weights.
  Var rounded_weights();
  /// Rounds rounded_weights() to integers.
  QuantizedWeights quantized_weights();
  /// Holds the scale that the weights have now. Does this only for fixed-point weights, because only their
  /// scale is chosen from the values of the weights. Does nothing for a unit that has no weights.
  void hold_weight_scale();

 protected:
  struct IntegerWeights {
    QuantizedWeights quantized;
    kernels::PackedWeights packed;
  };
  /// Returns the quantized weights, packed for the kernels of the forward and the backward pass. They are
  /// computed once for each version of the weights and each setting of the quantizer, and kept from the
  /// second request on (core/reused.h). `argument`: rounded_weights().
  IntegerWeights integer_weights(const Var& argument);

  /// The real numbers that the rounded weights stand for, for kernels in floating point.
  struct FloatWeights {
    Var weights;
    kernels::PackedWeights packed;
  };
  FloatWeights rounded_float_weights();

  /// What the unit must quantize in this pass.
  UnitPrecision precision_of(const Pass& pass, const Unit& unit) const {
    const UnitPrecision planned = pass.precision_of(unit);
    return {planned.weights, planned.activations && options_.quantize_activations};
  }

  const std::string name_;
  const NumberFormat options_;

 private:
  struct Version {  // of the master weights and the quantizer
    std::uint64_t weights = 0;
    int bits = 0;
    float scale = 0;
    bool operator==(const Version&) const = default;
  };

  Tensor state_ = Tensor::zeros({5});
  Reused<Version, IntegerWeights> integers_;
};

/// Returns the unit's adapter if it has a quantizer, else null.
QuantizedUnit* quantizer_of(const Unit& unit);

/// Executes a unit that only moves integers. Training uses the unit's own differentiable op, evaluation the
/// integer op. You can use it for units outside the library as well.
class MovingUnit final : public Adapter {
 public:
  MovingUnit(Unit& unit, std::shared_ptr<const IntegerOp> op) : unit_(unit), op_(std::move(op)) {}
  Var forward(const Pass& pass, Inputs inputs) override;

 private:
  Unit& unit_;
  std::shared_ptr<const IntegerOp> op_;
};

/// Makes the adapter for the unit called `name` (Unit::quantized_form). Returns null for a unit that does
/// nothing to integers. Throws internal for a kind of unit that has no quantized form.
std::shared_ptr<Adapter> make_quantized_adapter(const std::string& name, Unit& unit,
                                                const NumberFormat& options);

}  // namespace faq
