// The distribution of activations in the unquantized network.
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
  /// are tied have one histogram together, under the name they are tied to.
  std::map<std::string, Histogram> activations;
  std::map<std::string, UnitFlow> flow;
  std::int64_t images = 0;

  /// Throws internal for a unit that has not run.
  const Histogram& histogram(const std::string& unit) const;
};

/// Runs images through the model in eval mode, in floating point, until `next_images` returns nothing. The
/// model's adapters are removed. Throws bad_data when there are no images or an activation is not finite.
CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
