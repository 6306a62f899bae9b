#include "train/weight_analyses.h"

#include "core/safetensors.h"
#include "nn/load_weights.h"
#include "quant/compile.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"

namespace faq {
namespace {

[[noreturn]] void refuse_float(const std::string& file) {
  fail(ErrorKind::bad_data, "weights ", file,
       ": not quantized, expected an integer network or a quantized checkpoint");
}

}  // namespace

std::vector<WeightSimilarity> weight_similarity(const std::string& quantized_file,
                                                const std::string& baseline_file) {
  if (!describes_itself(quantized_file)) refuse_float(quantized_file);
  const Network network = open_network({.weights = quantized_file});
  NamedTensors before = network_in(read_usable_tensors(baseline_file));
  if (!network.model.empty()) before = with_canonical_names(before, model_info(network.model));
  if (network.deployed) return weight_similarity(*network.deployed, before);
  if (!network.quantized) refuse_float(quantized_file);
  return weight_similarity(compile(*network.trained, network.preprocessing), before);
}

WeightScaleScores weight_scale_scores(const Network& network, Loader& loader, RunListener& listener) {
  check(network.trained && !weight_scale_choices(*network.trained).empty(), ErrorKind::bad_data, "weights ",
        network.weights, " (", network.kind,
        "): expected a quantized checkpoint that has layers with fixed-point weights whose scale is not "
        "learned");
  const auto evaluated = [&] {
    Scores scores;
    return evaluate(network.forward, loader, scores, listener);
  };
  WeightScaleScores result{.as_it_is = evaluated(), .layers = {}};
  weight_scale_choices(*network.trained, [&](const WeightScaleChoice& choice) {
    result.layers.push_back({choice, evaluated()});
  });
  return result;
}

}  // namespace faq
