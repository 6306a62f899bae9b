// How far quantized and fine-tuned weights are from those they came from (FAQ, arXiv 1809.04191, section 5).
#pragma once

#include <string>
#include <vector>

#include "core/safetensors.h"
#include "quant/deploy/integer_network.h"

namespace faq {

struct WeightSimilarity {
  std::string layer;
  std::int64_t weights = 0;
  double cosine = 0;  ///< of the layer's weights as vectors
  /// The mean over the output channels, each with the share of the layer's squared norm it had. The scale of
  /// a channel is batch-norm's: equalizing (quant/equalize.h) changes `cosine`, and not this.
  double by_channel = 0;
};

/// One row per convolution and classifier of the network, and a last one, "all", over all weights. Throws
/// bad_data when `baseline` lacks a layer's weights or has them in another shape.
std::vector<WeightSimilarity> weight_similarity(const IntegerNetwork& network, const NamedTensors& baseline);

}  // namespace faq
