// The distribution of activations before they are quantized.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "nn/models.h"
#include "quant/flow.h"
#include "quant/histogram.h"

namespace faq {

/// The result of calibration.
struct CalibrationResult {
  /// By unit name: the distribution of a unit's output (Input, convolutions, NormAct) or of its input
  /// (Linear). Units that are tied (quant/flow.h) share one histogram, stored under the name they are tied
  /// to. A Linear that is tied has no histogram of its own, because its input was counted where it was made.
  std::map<std::string, Histogram> activations;
  std::map<std::string, UnitFlow> flow;
  std::int64_t images = 0;

  /// The histogram of the unit, or of the units it is tied to. Throws internal for a unit that has not run.
  const Histogram& histogram(const std::string& unit) const;
};

/// Runs images through the model in eval mode until `next_images` returns nothing. Weights are quantized if
/// the model already is (those are the weights the network was trained with). Activations stay in floating
/// point. Throws bad_data when there are no images or an activation is not finite.
CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
