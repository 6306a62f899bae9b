// Which scales weights have, and how firmly they prefer them.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/adapters.h"

namespace faq {

struct WeightScaleChoice {
  std::string layer;
  FixedPoint format;  ///< of its weights as they are now
  float other = 0;    ///< twice the scale or half of it, whichever has the smaller error
  /// Σ(w − Q(w))² with the other scale over that with the layer's own. 1 where a change of the weights, be it
  /// ever so small, makes the other one the best (`--weight-scale mse`); less than 1 for a scale that is held
  /// (or covers the largest weight) and is not the best; infinite where nothing is rounded.
  double error_ratio = 1;
};

/// One row for every layer with fixed-point weights, in the order of the model, which must be quantized.
/// With `look`, calls it for each row while that layer has the other scale.
std::vector<WeightScaleChoice> weight_scale_choices(
    Model& model, const std::function<void(const WeightScaleChoice&)>& look = {});

}  // namespace faq
