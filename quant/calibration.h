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

/// What calibration saw.
struct CalibrationResult {
  /// By unit name: the values a unit hands on (Input, convolutions, NormAct) or takes in (Linear). Units that
  /// are tied have one histogram together, under the name they are tied to (what a Linear takes in is in
  /// there already).
  std::map<std::string, Histogram> activations;
  std::map<std::string, UnitFlow> flow;
  std::int64_t images = 0;

  /// Throws internal for a unit that has not run.
  const Histogram& histogram(const std::string& unit) const;
};

/// Runs images through the model in eval mode until `next_images` returns nothing: with the weights it was
/// trained with, quantized if it is, as only those are the network that has learnt something, and activations
/// in floating point. Throws bad_data when there are no images or an activation is not finite.
CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
