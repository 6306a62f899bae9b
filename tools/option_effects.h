// Options that say something the rest of the command line makes meaningless.
#pragma once

#include <vector>

#include "train/option_table.h"

namespace faq {

/// Throws usage for the first of the `given` settings that has no effect on the run of `options`: who typed
/// it expects one. Presets and config files, which set everything, are not asked.
void refuse_without_effect(const std::vector<Setting>& given, const TrainOptions& options);

}  // namespace faq
