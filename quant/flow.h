// Who reads what a unit hands on: what its bits and its step depend on.
#pragma once

#include <map>
#include <string>

#include "nn/models.h"

namespace faq {

/// Of a unit that makes values (not one that only moves them: pooling, concatenation). "Reads" means
/// directly, or after they were moved.
struct UnitFlow {
  /// The first of the units whose values meet in a concatenation and therefore share one step; the unit
  /// itself when it is alone.
  std::string tied_to;
  bool read_by_conv = false;
  bool read_by_norm = false;  ///< by a normalisation that stands before its convolution
  bool read_by_classifier = false;
};

/// By unit name, found by running one image (u8 1,H,W,C) through the model in eval mode. It is left in that
/// mode and else as it was.
std::map<std::string, UnitFlow> trace_flow(Model& model, const Tensor& image);

}  // namespace faq
