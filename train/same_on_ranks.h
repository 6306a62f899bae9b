// Ranks that do not run the same thing are refused.
#pragma once

#include <nlohmann/json.hpp>

#include "data/dataset.h"
#include "train/learner.h"
#include "train/options.h"
#include "train/ranks/communicator.h"

namespace faq {

/// Throws AgreedError(usage) on all ranks, with the rank, the fact and both values, when one rank has other
/// facts than rank 0. `facts`: an object of objects of values, e.g. {"option": {"lr": 0.1}}.
void check_same_on_ranks(Communicator& ranks, const nlohmann::json& facts);
/// What must be the same before a run looks at any file: the options that change the result, the version, the
/// instruction set and the number of threads.
nlohmann::json facts_before_run(const TrainOptions& options);
/// Throws AgreedError(internal), naming a rank, when the learners have drifted apart: they train nothing that
/// makes sense.
void check_same_weights(Communicator& ranks, Learner& learner, std::int64_t step);

}  // namespace faq
