// Tells what a run would do.
#pragma once

#include <nlohmann/json.hpp>

#include "train/options.h"

namespace faq {

/// Returns the resolved options, the phases, the data, the per-layer table of a run, and what the run would
/// have to say before its first step: `notes`, of which some begin with "warning: ". It loads and
/// calibrates, but does not train or write anything. Throws Error as train() does.
nlohmann::json dry_run(const TrainOptions& options);

}  // namespace faq
