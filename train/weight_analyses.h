// What the weights of a quantized network say: how far they are from those they came from (FAQ,
// arXiv 1809.04191, section 5), and how firmly they prefer their scales.
#pragma once

#include <string>
#include <vector>

#include "quant/weight_scales.h"
#include "quant/weight_similarity.h"
#include "train/open_network.h"
#include "train/run_listener.h"

namespace faq {

/// The weights of a file, an integer network or a quantized checkpoint, against the float weights it came
/// from, which may have the names of torchvision or timm. Throws bad_data for a file that is not quantized,
/// and as weight_similarity of an IntegerNetwork does.
std::vector<WeightSimilarity> weight_similarity(const std::string& quantized_file,
                                                const std::string& baseline_file);

struct WeightScaleScore {
  WeightScaleChoice choice;
  Evaluation evaluation;  ///< of the network while this layer has the other scale
};

struct WeightScaleScores {
  Evaluation as_it_is;
  std::vector<WeightScaleScore> layers;
};

/// Evaluates a quantized checkpoint once as it is and once for every layer with fixed-point weights. Throws
/// bad_data for any other network.
WeightScaleScores weight_scale_scores(const Network& network, Loader& loader, RunListener& listener);

}  // namespace faq
