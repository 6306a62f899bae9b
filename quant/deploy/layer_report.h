// An integer network as a table: what a plan and the report of a run show.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "quant/deploy/integer_network.h"

namespace faq {

/// One op. The numbers are for one image.
struct LayerReport {
  std::string name;
  std::string kind;
  Shape output;  ///< without the batch: H,W,C or C
  std::int64_t macs = 0;
  /// The inputs of a ternary group are summed first, then multiplied once by the group's scale. So a layer
  /// with ternary clusters needs one multiplication per group; other layers need `macs`.
  std::int64_t multiplications = 0;
  int weight_bits = 0;                   ///< 0: no weights
  float weight_scale = 0;                ///< of the integers as they are now; the mean of channel scales
  std::int64_t weight_bytes = 0;         ///< as stored: packed, with multipliers and biases
  std::optional<FixedPoint> activation;  ///< of the output; for a classifier, of its input; none for s32 sums
  std::int64_t activation_bytes = 0;     ///< of the output
};

std::vector<LayerReport> layer_report(const IntegerNetwork& network);
/// The row as JSON. It has "act_bits", "act_scale", "act_signed" and "act_max" where there is an activation.
nlohmann::json to_json(const LayerReport& row);

}  // namespace faq
