// Which scales the weights have, and how clearly each scale is the best one.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "nn/models.h"
#include "quant/adapters.h"

namespace faq {

struct WeightScaleChoice {
  std::string layer;
  FixedPoint format;  ///< of the layer's weights as they are now
  float other = 0;    ///< twice or half the layer's scale, whichever has the smaller error
  /// Σ(w − Q(w))² with the other scale, divided by that with the layer's own scale. 1: with `--weight-scale
  /// mse`, a change of the weights, however small, makes the other scale the best one. Below 1: the layer's
  /// own scale is not the best one, because it is held or because it covers the largest weight. Infinite: the
  /// layer's own scale has no error.
  double error_ratio = 1;
};

/// Returns one row for every layer with fixed-point weights whose scale is chosen, in the order of the model.
/// The model must be quantized. If `look` is given, it is called for each row while that layer has the other
/// scale.
std::vector<WeightScaleChoice> weight_scale_choices(
    Model& model, const std::function<void(const WeightScaleChoice&)>& look = {});

}  // namespace faq
