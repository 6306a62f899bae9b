// Where activations are quantized, and the steps found from their distribution in the unquantized network.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>

#include "nn/models.h"
#include "quant/histogram.h"
#include "quant/options.h"

namespace faq {

/// What calibration saw, by unit name: the values a unit hands on (Input, ConvNormAct) or takes in (Linear).
struct CalibrationResult {
  std::map<std::string, Histogram> activations;
  std::int64_t images = 0;
};

/// Runs images through the model in eval mode, in floating point, until `next_images` returns nothing. Adapters are removed;
/// the model is left in training mode as it was.
CalibrationResult calibrate(Model& model, const std::function<std::optional<Tensor>()>& next_images);

/// The power-of-two format of an activation (FAQ, section 2.1): with percentile p, step = 2^ceil(log2(p / max)).
FixedPoint activation_format(const Histogram& histogram, int bits, bool is_signed, const QuantOptions& options);

}  // namespace faq
