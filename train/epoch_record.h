// The epochs of a run as its checkpoints keep them: the rows of summary.csv.
#pragma once

#include <nlohmann/json.hpp>

#include "train/run_listener.h"

namespace faq {

/// One row of the history.
nlohmann::json epoch_row(const EpochDone& done);
/// The validation of an epoch as the history has it; of one that it has not: nothing.
Evaluation validation_in(const nlohmann::json& history, std::int64_t epoch);

}  // namespace faq
