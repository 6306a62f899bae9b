// Who reads what a unit hands on: what its bits and its scale depend on.
#pragma once

#include <map>
#include <string>

#include "nn/models.h"

namespace faq {

/// Of the values a unit makes (not one that only moves them: pooling, concatenation), or a classifier takes
/// in. "Reads" means directly, or after they were moved. Units that are tied have one format, so everything
/// but the name is that of all of them together.
struct UnitFlow {
  /// The first of the units whose values meet in a concatenation and therefore share one format; the unit
  /// itself when it is alone. A classifier is tied to what it reads, unless that are means of images, which
  /// it quantizes itself.
  std::string tied_to;
  bool read_by_conv = false;
  bool read_by_norm = false;  ///< by a normalisation that stands before its convolution
  bool read_by_classifier = false;
  bool is_signed = false;  ///< no ReLU made it what it is
};

/// By unit name, found by running one image (u8 1,H,W,C) through the model in floating point.
std::map<std::string, UnitFlow> trace_flow(Model& model, const Tensor& image);

}  // namespace faq
