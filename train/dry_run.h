// What a run would do.
#pragma once

#include <nlohmann/json.hpp>

#include "train/options.h"

namespace faq {

/// The resolved options, the phases, the data and the per-layer table of a run. Loads and calibrates; trains
/// and writes nothing. Throws Error as train() does.
nlohmann::json dry_run(const TrainOptions& options);

}  // namespace faq
