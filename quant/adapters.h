// Quantized execution of units: integer kernels in the training forward, integer ops in evaluation.
#pragma once

#include <memory>
#include <string>

#include "core/reused.h"
#include "nn/units.h"
#include "quant/deploy/integer_op.h"
#include "quant/faq_scheme.h"
#include "quant/number_format.h"

namespace faq {

/// The settings of a unit's quantizer. They are stored in a tensor, so checkpoints save and load them like
/// any other state. Scales that are learned (Scheme::lsq) are parameters instead:
/// QuantizedUnit::learn_scales.
struct QuantizerState {
  FixedPoint activation;   ///< of the unit's output; for Linear, of its input; with the learned scale
  int weight_bits = 0;     ///< 0: the unit has no weights
  float weight_scale = 0;  ///< held scale; 0: no held scale, it is chosen at every use
};

/// Base of the adapters that have a quantizer. Checkpoints store the quantizer as `quantizer`, f32 [scale,
/// bits, signed, weight bits, weight scale], and learned scales as the parameters `weight_scale` (one
/// element, or one per output channel) and `activation_scale`. `scale` is then the one that learning started
/// from.
class QuantizedUnit : public Adapter {
 public:
  QuantizedUnit(std::string name, const NumberFormat& options) : name_(std::move(name)), options_(options) {}

  void visit(Visitor& visitor) override;
  /// True once calibration or a checkpoint has set the quantizer.
  bool has_state() const;
  /// Returns the settings. Throws bad_data when nothing has set them, or when a checkpoint holds values that
  /// make no sense.
  QuantizerState state() const;
  /// A learned scale of the activation starts anew, with that of `state`.
  void set_state(const QuantizerState& state);
  const NumberFormat& options() const { return options_; }
  /// Sets the position of the unit among those of the model: the layer of RoundingKeys.
  void set_position(std::uint32_t position) { position_ = position; }

  /// Makes parameters of the scales of the weights (if there are any) and of the activation (if activations
  /// are quantized). All are 1 until start_scales() or a checkpoint sets them. Call it once. `activation_of`:
  /// the unit whose activation has the same scale, because their values meet; null: this unit has its own.
  void learn_scales(const QuantizedUnit* activation_of);
  /// Sets the learned scales: those that `before` has learned for as many bits, the others as the scheme
  /// starts them, from the weights and from the activation set by set_state(). `before`: may be null.
  void start_scales(const QuantizedUnit* before);

  /// The unit's weights in floating point; undefined for a unit that has none.
  virtual Var master_weights() const { return {}; }
  /// The values that are rounded to integers, computed from the weights as they are now (rounded_argument in
  /// quant/scheme.h; learned_rounding where the scale is learned); undefined for a unit that has no weights.
  Var rounded_weights();
  /// True if the scale of the weights is a parameter.
  bool learns_weight_scale() const { return weight_scale_.defined(); }
  /// Rounds rounded_weights() to integers.
  QuantizedWeights quantized_weights();
  /// Where the optimizer notes what it sees of master_weights() as it writes them, so that choosing their
  /// scale need not read them again. `seen` is null if the scale is not chosen from the weights themselves.
  struct WatchedWeights {
    std::shared_ptr<SeenWeights> seen;
    int bits = 0;
    WeightScale how = {};
  };
  WatchedWeights watched_weights() const;
  /// Holds the scale that the weights have now. Does this only for fixed-point weights, because only their
  /// scale is chosen from the values of the weights. Does nothing for a unit that has no weights, or learns
  /// their scale.
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

  /// The learned scale of the activation, or undefined.
  const Var& activation_scale() const { return activation_scale_; }
  /// The learned scales of the weights; undefined for a unit that learns none.
  const Tensor& learned_weight_scale() const;
  /// True if the unit's accumulators are multiplied by a factor per output channel: scales of channels then
  /// cost nothing.
  virtual bool has_channel_multipliers() const { return false; }
  /// y, with a gradient of 0 for the scales of this unit that had no part in it: in every step of training
  /// every parameter gets a gradient. `used`: what the unit has quantized.
  Var with_idle_scales(const Pass& pass, const Var& y, UnitPrecision used) const;

  /// The random bits of the unit's gradients; none where nothing rounds them.
  RoundingKeys rounding_keys(const Pass& pass) const {
    if (!options_.grad_format.is_integer()) return {};
    return {pass.keys.seed, position_, pass.keys.epoch, pass.keys.samples};
  }

  /// What the unit must quantize in this pass.
  UnitPrecision precision_of(const Pass& pass, const Unit& unit) const {
    const UnitPrecision planned = pass.precision_of(unit);
    return {planned.weights, planned.activations && options_.quantize_activations};
  }

  const std::string name_;
  const NumberFormat options_;

 private:
  void check_scales(const char* what, const Tensor& scales) const;

  struct Version {  // of the master weights and the quantizer
    std::uint64_t weights = 0;
    int bits = 0;
    float scale = 0;
    std::uint64_t learned_scale = 0;
    bool operator==(const Version&) const = default;
  };

  std::uint32_t position_ = 0;
  Tensor state_ = Tensor::zeros({5});
  Var weight_scale_, activation_scale_;    ///< undefined: not learned
  bool has_own_activation_scale_ = false;  ///< of tied units one lists the scale
  Reused<Version, IntegerWeights> integers_;
  const std::shared_ptr<SeenWeights> seen_ = std::make_shared<SeenWeights>();
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
