// A training run from options to results.
#pragma once

#include "train/method.h"
#include "train/options.h"
#include "train/run_context.h"

namespace faq {

/// Runs, or continues, a run (see TrainingLoop). Throws Error; `diverged` names the last good checkpoint.
TrainResult train(const TrainOptions& options, Method& method, const RunContext& context);

}  // namespace faq
