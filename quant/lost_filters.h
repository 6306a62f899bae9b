// Filters that rounding makes into other filters.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "nn/module.h"

namespace faq {

struct LostFilters {
  std::string layer;
  std::int64_t lost = 0;  ///< filters (output channels) whose rounding error is larger than the filter itself
  std::int64_t filters = 0;
};

/// Returns the convolutions of a quantized model with such filters. Codes without a zero (DoReFa's are odd
/// integers) turn a filter of zeros, as pruning or weight decay leaves it, into noise. The running statistics
/// behind it, a variance of nearly 0, then magnify the noise, until they are taken anew.
std::vector<LostFilters> lost_filters(Module& model);

}  // namespace faq
