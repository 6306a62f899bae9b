// Ranks that do not run the same thing are refused.
#pragma once

#include <nlohmann/json.hpp>

#include "train/options.h"
#include "train/ranks/communicator.h"

namespace faq {

/// Throws AgreedError(usage) on all ranks, with the rank, the fact and both values, when one rank has other
/// facts than rank 0. `facts`: an object of objects of values, e.g. {"option": {"lr": 0.1}}.
void check_same_on_ranks(Communicator& ranks, const nlohmann::json& facts);
/// What must be the same before a run looks at any file: the options that change the result, the version, the
/// instruction set and the number of threads.
nlohmann::json facts_before_run(const TrainOptions& options);
/// A checksum of some images, spread over the data set. One rank lists the files for all, so this is how
/// others notice that they have other ones. `skip_bad`: images that cannot be used are no error.
std::uint32_t checksum_of_some_images(const Dataset& dataset, bool skip_bad);

}  // namespace faq
