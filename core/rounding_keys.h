// The address of the random bits that round a gradient.
#pragma once

#include <cstdint>
#include <vector>

namespace faq {

/// Which random bits round the gradient of a layer in a step (core/rng.h). A sample is seen once in an epoch,
/// so epoch and sample name the step as well. The bits of an image depend neither on the batch it is in nor
/// on the threads or ranks that compute.
struct RoundingKeys {
  std::uint64_t seed = 0;
  std::uint32_t layer = 0;  ///< below 2^24
  std::int64_t epoch = 0;
  std::vector<std::int64_t> samples = {};  ///< of the batch's images: positions in the data set
};

}  // namespace faq
