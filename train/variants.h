// A run and variations of it (FAQ, arXiv 1809.04191, section 5): what each ingredient of a recipe is worth,
// and what a network reaches at every width.
#pragma once

#include <string>
#include <vector>

#include "train/options.h"
#include "train/trainer.h"

namespace faq {

struct VariantResult {
  std::string name;      ///< for people: "no pretraining", "4"
  std::string folder;    ///< below the run's output_dir
  TrainOptions options;  ///< of this variant
  TrainResult result;
};

/// The run itself, then the same with one ingredient taken away at a time: pretraining, calibration,
/// equalizing, length, batch size, held scales, wide first and last layers, weight decay. Variants that
/// change nothing are left out. Every run has a folder in `options.output_dir`; an interrupted one goes on
/// there. Throws usage for a run that is not quantized, and stopped.
std::vector<VariantResult> sensitivity(const TrainOptions& options, const RunContext& context);

/// The run with weights and activations of 8, 6, 5, 4, 3 and 2 bits, as far as its scheme has them. Folders
/// and errors as above; throws usage for a run with a schedule of bits.
std::vector<VariantResult> train_at_widths(const TrainOptions& options, const RunContext& context);

}  // namespace faq
