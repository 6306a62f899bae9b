// Whether the files that the results of a run speak of are still there.
#pragma once

#include <filesystem>
#include <string>

#include "train/checkpoint.h"

namespace faq {

/// Returns what is wrong with best.safetensors and integer.safetensors of a run, which may have been written
/// hours ago, and what can be done about it; an empty text if nothing is. They must be of the run's best
/// epoch. `has_integer`: the run deploys an integer network.
std::string lost_results(const std::filesystem::path& folder, const Progress& progress, bool has_integer);

}  // namespace faq
