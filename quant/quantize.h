// Turns a model's units into quantized ones.
#pragma once

#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/calibration.h"
#include "quant/number_format.h"

namespace faq {

/// The format of one unit that has a quantizer. These are the units with weights, the normalisations in front
/// of their convolutions, and the input.
struct LayerPlan {
  std::string name;
  int weight_bits = 0;    ///< 0: the unit has no weights
  FixedPoint activation;  ///< of the unit's output; for Linear, of its input
};

/// Installs an adapter on every unit. The adapters replace floating-point execution; parameters stay where
/// they are.
///
/// The formats come from `calibration`. A format is signed unless a ReLU made the values. Units whose values
/// are concatenated share one format (quant/flow.h). Without calibration (nullptr) the quantizers are not
/// set: running the model throws until a checkpoint is loaded into its buffers. A held weight scale stays if
/// neither the scheme nor the weight's bits change.
///
/// Throws usage for bits other than 2 to 8, and for overrides that match no unit or contradict each other;
/// the model is then unchanged.
void quantize(Model& model, const NumberFormat& options, const CalibrationResult* calibration);

/// Calls QuantizedUnit::hold_weight_scale for every unit. A held scale no longer follows the weights. When
/// this helps: docs/experiments/weight-scales.md.
void hold_weight_scales(Model& model);

/// The probability to pass to draw_precision when the fraction `done` of the steps (0 to 1) is over. It rises
/// linearly from `start` to 1, and stays 1 for the last fraction `tail` of the steps.
double quantized_probability(double start, double tail, double done);

/// Draws which units train in full precision at the optimizer step numbered `step`. Each unit is quantized
/// with probability `quantized`, independently of the others (Zhuang et al., arXiv 1908.04680, section 3.4).
/// The draws depend only on (seed, step, position of the unit). The network's input is always quantized.
PrecisionPlan draw_precision(Model& model, double quantized, std::uint64_t seed, std::int64_t step);

/// Returns one row per unit that has a quantizer, for a report. The model must be quantized.
std::vector<LayerPlan> layer_plan(Model& model);

}  // namespace faq
