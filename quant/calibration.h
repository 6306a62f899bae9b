// The distribution of activations in the unquantized network.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "nn/models.h"
#include "quant/histogram.h"

namespace faq {

/// What calibration saw, by unit name.
struct CalibrationResult {
  /// The values a unit hands on (Input, ConvNormAct) or takes in (Linear).
  std::map<std::string, Histogram> activations;
  /// ConvNormAct units whose output no other convolution reads: they feed the classifier (directly or
  /// pooled).
  std::string last_unit;
  std::int64_t images = 0;
};

/// Runs images through the model in eval mode, in floating point, until `next_images` returns nothing. The
/// model's adapters are removed. Throws bad_data when there are no images or an activation is not finite.
CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
