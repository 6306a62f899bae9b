// Where the values of one image lie in the arena of a network that is C.
#pragma once

#include <cstdint>
#include <vector>

#include "quant/deploy/integer_network.h"

namespace faq {

/// Offsets in bytes, multiples of four, node by node.
struct CPlaces {
  std::vector<std::int64_t> values;   ///< but of the last node, whose result goes to the caller
  std::vector<std::int64_t> scratch;  ///< what the node needs beside values: one filter, or nothing
  std::int64_t bytes = 0;             ///< of the arena
};

/// Values lie where no other lies that is still to be read.
CPlaces c_places(const IntegerNetwork& network);

}  // namespace faq
