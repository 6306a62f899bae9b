// An integer network as a table: what --dry-run prints.
#pragma once

#include <string>
#include <vector>

#include "quant/deploy/integer_network.h"

namespace faq {

/// One op, per image.
struct LayerReport {
  std::string name;
  std::string kind;
  Shape output;  ///< without the batch: H,W,C or C
  std::int64_t macs = 0;
  /// Ternary groups are summed and multiplied by their scale: as many as there are groups.
  std::int64_t multiplications = 0;
  int weight_bits = 0;                   ///< 0: no weights
  float weight_scale = 0;                ///< of the integers as they are now
  std::int64_t weight_bytes = 0;         ///< as stored: packed, with multipliers and biases
  std::optional<FixedPoint> activation;  ///< of the output; of a classifier its input; none: s32 sums
  std::int64_t activation_bytes = 0;     ///< of the output
};

std::vector<LayerReport> layer_report(const IntegerNetwork& network);

}  // namespace faq
