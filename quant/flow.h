// Who reads a unit's output. The bits and the scale of the output depend on it.
#pragma once

#include <map>
#include <string>

#include "nn/models.h"

namespace faq {

/// Describes the output of a unit that makes values (not of one that only moves them: pooling,
/// concatenation), or the input of a classifier. "Reads" means directly, or after such a move. Units that are
/// tied share one format, so all fields except the name describe all of them together.
struct UnitFlow {
  /// The first of the units whose values meet in a concatenation and therefore share one format. A unit that
  /// is alone is tied to itself. A classifier is tied to the unit it reads. Exception: a classifier that
  /// reads means over whole images is tied to itself, because it quantizes them itself.
  std::string tied_to;
  bool read_by_conv = false;
  bool read_by_norm = false;  ///< by a normalisation in front of its convolution
  bool read_by_classifier = false;
  bool in_sum = false;     ///< the output of a unit that adds a residual, or what such a unit adds
  bool is_signed = false;  ///< values may be negative: no ReLU made them
};

/// Returns the flow by unit name. Runs one image (u8 1,H,W,C) through the model in floating point.
std::map<std::string, UnitFlow> trace_flow(Model& model, const Tensor& image);

}  // namespace faq
