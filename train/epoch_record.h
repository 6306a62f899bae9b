// The history of a run in its checkpoints: one row per epoch, also the rows of summary.csv.
#pragma once

#include <nlohmann/json.hpp>

#include "train/run_listener.h"

namespace faq {

/// Makes the row of an epoch.
nlohmann::json epoch_row(const EpochDone& done);
/// Returns the validation of an epoch from the history; an empty Evaluation if the history lacks the epoch.
Evaluation validation_in(const nlohmann::json& history, std::int64_t epoch);

/// True if one history may be the beginning of the other: the epochs that both have are those of one run.
/// Speeds differ from one attempt to the next.
bool may_be_of_one_run(const nlohmann::json& history, const nlohmann::json& other);

}  // namespace faq
