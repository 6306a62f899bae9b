// The history of a run in its checkpoints: one row per epoch, also the rows of summary.csv.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "train/run_listener.h"

namespace faq {

/// Makes the row of an epoch.
nlohmann::json epoch_row(const EpochDone& done);
/// Throws bad_data unless a history, as `source` has it, has rows whose epochs rise and whose figures are
/// numbers, or null where they were not finite.
void check_history(const nlohmann::json& history, const std::string& source);
/// Returns the validation of an epoch from the history; an empty Evaluation if the history lacks the epoch.
Evaluation validation_in(const nlohmann::json& history, std::int64_t epoch);

/// True if one history may be the beginning of the other: the epochs that both have are those of one run.
/// Speeds differ from one attempt to the next.
bool may_be_of_one_run(const nlohmann::json& history, const nlohmann::json& other);

}  // namespace faq
