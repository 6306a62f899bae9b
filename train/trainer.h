// Runs a training run from options to results.
#pragma once

#include "train/method.h"
#include "train/options.h"
#include "train/run_context.h"

namespace faq {

/// Runs or resumes a run (see TrainingLoop), together with the other ranks of context.ranks. Throws Error;
/// `diverged` names the last good checkpoint. An error of one rank ends the run on all.
TrainResult train(const TrainOptions& options, const RunContext& context = {});
/// The same with a method of your own. Throws usage when the recipe is quantized and the method is not, or
/// the reverse: the saved options must say what was done.
TrainResult train(const TrainOptions& options, Method& method, const RunContext& context);

}  // namespace faq
