// Turns a model's units into quantized ones.
#pragma once

#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/calibration.h"
#include "quant/options.h"

namespace faq {

/// What is quantized how: one row per unit with weights, and the input.
struct LayerPlan {
  std::string name;
  int weight_bits = 0;    ///< 0: no weights
  FixedPoint activation;  ///< of the values the unit hands on; for Linear, of those it takes in
};

/// Installs adapters on every unit (floating-point execution is replaced; parameters stay where they are)
/// with the steps `calibration` gives. Without it (nullptr) steps are 1 until a checkpoint is loaded into the
/// model's buffers.
void quantize(Model& model, const QuantOptions& options, const CalibrationResult* calibration);

/// Rows for a report. The model must be quantized.
std::vector<LayerPlan> layer_plan(Model& model);

}  // namespace faq
