// Turns a model's units into quantized ones.
#pragma once

#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/calibration.h"
#include "quant/number_format.h"

namespace faq {

/// What is quantized how: one row per unit with a quantizer: those with weights, normalisations that stand
/// before their convolutions, and the input.
struct LayerPlan {
  std::string name;
  int weight_bits = 0;    ///< 0: no weights
  FixedPoint activation;  ///< of the values the unit hands on; for Linear, of those it takes in
};

/// Installs adapters on every unit (floating-point execution is replaced; parameters stay where they are)
/// with the formats `calibration` gives: signed where no ReLU made the values what they are, one for units
/// whose values are concatenated (quant/flow.h). Without it (nullptr) they have none, and running the model
/// throws, until a checkpoint is loaded into its buffers. Throws usage for overrides that match no unit or
/// contradict each other, and leaves the model as it was. Weights that hold a scale go on with it where
/// neither scheme nor bits change.
void quantize(Model& model, const NumberFormat& options, const CalibrationResult* calibration);

/// QuantizedUnit::hold_weight_scale of every unit. A scale that is chosen anew at every use stops following
/// weights; what that is good for: docs/experiments/weight-scales.md.
void hold_weight_scales(Model& model);

/// The probability of draw_precision when `done` of the steps (0 to 1) are over: from `start` it rises evenly
/// to 1, where it stays for the last `tail` of them.
double quantized_probability(double start, double tail, double done);

/// Draws, for the optimizer step numbered `step`, which units train in full precision: each one,
/// independently, is quantized with probability `quantized` (Zhuang et al., arXiv 1908.04680, section 3.4).
/// The draws depend on (seed, step, position of the unit) alone. The network's input stays quantized.
PrecisionPlan draw_precision(Model& model, double quantized, std::uint64_t seed, std::int64_t step);

/// Rows for a report. The model must be quantized.
std::vector<LayerPlan> layer_plan(Model& model);

}  // namespace faq
