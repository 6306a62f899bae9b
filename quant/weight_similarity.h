// How similar quantized and fine-tuned weights are to the weights they started from (FAQ, arXiv 1809.04191,
// section 5).
#pragma once

#include <string>
#include <vector>

#include "core/safetensors.h"
#include "quant/deploy/integer_network.h"

namespace faq {

struct WeightSimilarity {
  std::string layer;
  std::int64_t weights = 0;
  double cosine = 0;  ///< between the layer's weights before and after, as vectors
  /// The mean of the cosines of the output channels, each weighted with its share of the layer's squared norm
  /// in the baseline. Equalizing (quant/equalize.h) changes `cosine` but not this value: the scale of a
  /// channel belongs to batch-norm.
  double by_channel = 0;
};

/// Returns one row per convolution and classifier of the network, and a last row, "all", over all weights.
/// Throws bad_data when `baseline` lacks a layer's weights or has them in another shape.
std::vector<WeightSimilarity> weight_similarity(const IntegerNetwork& network, const NamedTensors& baseline);

}  // namespace faq
