// How faq-train ends: what has become of the network, and what can be done with it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "train/options.h"
#include "train/run_listener.h"

namespace faq {

/// The table of a run's stages: the rows of report_details() (train/report_details.h) where a report has been
/// made, else what the run itself knows. `bold`: the last row is, for a terminal.
std::string stages_text(const nlohmann::json& details, const TrainResult& result, bool quantized, bool bold);
/// The line below it.
std::string summary_text(const TrainResult& result);
/// Commands for what one does next with the files in the output folder, as lines.
std::string next_text(const TrainOptions& options, bool has_report);

}  // namespace faq
