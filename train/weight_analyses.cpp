#include "train/weight_analyses.h"

#include "core/safetensors.h"
#include "nn/load_weights.h"
#include "quant/compile.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"

namespace faq {
namespace {

IntegerNetwork integer_network_of(const std::string& file, const Network& network) {
  if (!network.trained) return IntegerNetwork::load(file);
  check(network.quantized, ErrorKind::bad_data, "weights ", file,
        ": not quantized, expected an integer network or a quantized checkpoint");
  return compile(*network.trained, network.preprocessing);
}

}  // namespace

std::vector<WeightSimilarity> weight_similarity(const std::string& quantized_file,
                                                const std::string& baseline_file) {
  check(describes_itself(quantized_file), ErrorKind::bad_data, "weights ", quantized_file,
        ": not quantized, expected an integer network or a quantized checkpoint");
  const Network network = open_network({.weights = quantized_file});
  NamedTensors before = network_in(read_safetensors(baseline_file));
  if (!network.model.empty()) before = with_canonical_names(before, model_info(network.model));
  return weight_similarity(integer_network_of(quantized_file, network), before);
}

WeightScaleScores weight_scale_scores(const Network& network, Loader& loader, RunListener& listener) {
  check(network.trained && !weight_scale_choices(*network.trained).empty(), ErrorKind::bad_data, "weights ",
        network.weights, " (", network.kind,
        "): expected a quantized checkpoint that has layers with fixed-point weights");
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
