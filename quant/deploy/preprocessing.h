// What is done to an image before an integer network sees it.
#pragma once

#include <string>
#include <vector>

namespace faq {

/// Of an image of `channels` channels, 8 bits each: the shorter side is resized to `resize`, the middle
/// `height` × `width` pixels are cut out, and the first op of the network maps them to integers by `mean` and
/// `std`. Only the last of these is done by the network itself.
struct Preprocessing {
  static constexpr int max_extent = 1 << 12;  ///< of height, width and resize

  int height = 0;    ///< of the crop
  int width = 0;     ///< of the crop
  int channels = 3;  ///< 1 (grey) or 3 (red, green, blue)
  int resize = 0;    ///< the shorter side before the crop; 0: images are not resized
  /// Of pixels divided by 255, one per channel. Empty when they are not known: files before format 4 do not
  /// say.
  std::vector<float> mean = {};
  std::vector<float> std = {};
  /// One per class, or empty: the classes have no names.
  std::vector<std::string> class_names = {};

  bool operator==(const Preprocessing&) const = default;
};

/// Throws usage, naming the field, for what no network can have.
void check_preprocessing(const Preprocessing& preprocessing);

}  // namespace faq
