// The preprocessing of an image before it goes into an integer network.
#pragma once

#include <string>
#include <vector>

#include "core/interpolation.h"

namespace faq {

/// Preprocessing of an image of `channels` channels, 8 bits each, in three steps:
/// - The shorter side is resized to `resize`.
/// - The middle `height` × `width` pixels are cut out.
/// - The first op of the network maps the pixels to integers, with `mean` and `std`.
///
/// The network itself does only the last one.
struct Preprocessing {
  static constexpr int max_extent = 1 << 12;  ///< of height, width and resize

  int height = 0;    ///< of the crop
  int width = 0;     ///< of the crop
  int channels = 3;  ///< 1 (grey) or 3 (red, green, blue)
  int resize = 0;    ///< the shorter side before the crop; 0: no resizing
  Interpolation interpolation = Interpolation::bilinear;
  /// Mean and standard deviation of pixels divided by 255, one per channel. Empty when they are not known:
  /// files before format 4 may lack them.
  std::vector<float> mean = {};
  std::vector<float> std = {};
  /// One per class. Empty if the classes have no names.
  std::vector<std::string> class_names = {};

  bool operator==(const Preprocessing&) const = default;
};

/// Throws usage, with the name of the field, for values that no network can have.
void check_preprocessing(const Preprocessing& preprocessing);

}  // namespace faq
