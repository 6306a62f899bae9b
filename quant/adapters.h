// Quantized execution of units: integer kernels in the training forward, integer ops in evaluation.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "nn/units.h"
#include "quant/deploy/integer_op.h"
#include "quant/options.h"

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
  QuantizedUnit(std::string name, const QuantOptions& options) : name_(std::move(name)), options_(options) {}

  void visit(Visitor& visitor) override { visitor.setting("quantizer", state_); }
  /// Whether calibration or a checkpoint has set the quantizer.
  bool has_state() const;
  /// Throws bad_data when a checkpoint has brought values that make no sense, or nothing has set it.
  QuantizerState state() const;
  void set_state(const QuantizerState& state);
  const QuantOptions& options() const { return options_; }

  /// What is quantized as the unit's weights, as it is now; undefined for a unit that has none.
  virtual Var rounded_weights() { return {}; }
  /// The integers that gives.
  QuantizedWeights quantized_weights();
  /// From now on the weights keep the scale they have, where it is a scale the scheme chooses from their
  /// values: that of fixed-point weights.
  void hold_weight_scale();

  /// In training, compute in full precision until further notice (stochastic precision): neither the weights
  /// nor what is handed on are quantized.
  void set_full_precision(bool full_precision) { full_precision_ = full_precision; }
  /// Hand on what is not quantized, until further notice (calibration).
  void set_float_activations(bool float_activations) { float_activations_ = float_activations; }

 protected:
  struct Precision {
    bool weights = true;
    bool activations = true;
  };
  /// What is to be quantized now.
  Precision present_precision(bool training) const {
    if (training && full_precision_) return {false, false};
    return {true, options_.quantize_activations && !float_activations_};
  }

  const std::string name_;
  const QuantOptions options_;

 private:
  bool full_precision_ = false;
  bool float_activations_ = false;
  Tensor state_ = Tensor::zeros({5});
};

/// The adapter for the unit called `name`; nothing for one that does nothing; throws internal for a kind that
/// has none.
std::shared_ptr<Adapter> make_quantized_adapter(const std::string& name, Unit& unit,
                                                const QuantOptions& options);

}  // namespace faq
