// FAQ's analyses (arXiv 1809.04191, section 5) as faq-eval --analyze prints them: a table, the same as JSON,
// a figure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tools/chart.h"
#include "train/open_network.h"
#include "train/options.h"
#include "train/progress_display.h"
#include "train/trainer.h"

namespace faq {

struct Analysis {
  nlohmann::json result;
  std::string table;
  Chart chart;
};

/// Cosine similarity between the quantized weights of options.weights (an integer network or a quantized
/// checkpoint) and those of `baseline`.
Analysis analyze_cosine(const TrainOptions& options, const std::string& baseline);

/// Disagreement of mini-batch gradients at options.weights, by bit width (32: not quantized) and batch size,
/// over `batches` training batches of each size; sizes of which the data do not hold two are left out.
Analysis analyze_gradient_noise(const TrainOptions& options, bool model_given, int batches,
                                std::vector<int> batch_sizes, ProgressDisplay& display);

/// The run of `options`, and the same with one ingredient of the recipe taken away at a time, each in a
/// folder of options.output_dir, where an interrupted analysis goes on.
Analysis analyze_sensitivity(const TrainOptions& options, const RunContext& context);

/// The run of `options` with weights and activations of 8, 6, 5, 4, 3 and 2 bits: what calibration alone and
/// what training reaches. Folders as for the sensitivity.
Analysis analyze_bits(const TrainOptions& options, const RunContext& context);

/// How firmly the layers of a quantized checkpoint, options.weights opened as `network`, prefer the steps of
/// their weights, and what it scores when one of them has the other step (quant/weight_scales.h).
Analysis analyze_weight_scales(const TrainOptions& options, const Network& network, Loader& loader,
                               ProgressDisplay& display);

/// Writes NAME.json and NAME.svg into the folder.
void save(const Analysis& analysis, const std::string& folder, const std::string& name);

}  // namespace faq
