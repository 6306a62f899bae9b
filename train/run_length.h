// Whether a run may go on for longer than was said when it began.
#pragma once

#include <string>

#include "train/options.h"

namespace faq {

/// Returns why a run with the options `before` that goes on with those of `now`, which name other epochs,
/// would not be the run that `now` is from its beginning; empty if it would be, bit for bit. `phases`: those
/// of the run (Method::phases).
std::string why_of_that_length(const TrainOptions& now, const TrainOptions& before, int phases);

/// True if a step trains with batch-norm's running statistics, and leaves them as they are
/// (Recipe::freeze_batch_norm_stats). `phase_done`: the fraction of the phase that is over before the step.
bool holds_batch_norm_stats(const Recipe& recipe, double phase_done);

}  // namespace faq
