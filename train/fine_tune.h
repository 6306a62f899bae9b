// The main job of the product in one value: a pretrained network, its data and a recipe. The result is the
// network in the integers it will be deployed in.
#pragma once

#include "train/options.h"
#include "train/presets.h"
#include "train/run_context.h"

namespace faq {

/// FineTune{.model = {.model = "resnet20", .weights = "resnet20.safetensors"},
///          .data = {.data_path = "cifar10"},
///          .recipe = recipe("faq-4bit"),
///          .output = {.output_dir = "runs/r20-w4a4"}}.run();
///
/// A recipe without a scheme trains in floating point, and there is no integer network.
///
/// Networks of your own: register_model() (nn/models.h). Data of your own: RunContext::open_split.
///
/// The output folder gets the files that faq-train writes: last.safetensors and best.safetensors, which
/// open_network and another run's `weights` read, and integer.safetensors of the best epoch, which
/// IntegerNetwork::load reads.
struct FineTune {
  ModelChoice model;
  DataChoice data;
  Recipe recipe;
  RunChoice output;

  /// All fields as one TrainOptions, without a preset.
  TrainOptions options() const { return {model, data, recipe, output, /*preset=*/{}}; }
  /// Runs as train() (train/trainer.h) does, and also writes metrics.jsonl, summary.csv and report.html.
  TrainResult run(const RunContext& context = {}) const;
};

}  // namespace faq
