// A look at a few images of a data set, spread evenly over it: what a run compares, and what it says of them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "train/options.h"

namespace faq {

struct ImageSample {
  std::int64_t images = 0;  ///< how many could be decoded
  /// Of the pixels of each, CRC-32; nothing for one that cannot be decoded.
  std::vector<std::optional<std::uint32_t>> checksums = {};
  /// Those with the shorter and the longer shorter side.
  int smallest_height = 0, smallest_width = 0;
  int largest_height = 0, largest_width = 0;
};

/// The most images that are looked at. All ranks decode them before a run begins.
inline constexpr std::int64_t images_in_sample = 32;

/// Images that cannot be decoded are passed over: whoever reads all of them reports them.
ImageSample sample_of(const Dataset& dataset);
/// The same of the first of these files; `channels` as load_image() wants them.
ImageSample sample_of(const std::vector<std::string>& files, int channels);

/// Says what is done to images on their way into the network: "images: 500×375; evaluation: …". Of
/// Split::train also what training does. The sizes of `options` are set.
std::string text_of_preprocessing(const ImageSample& sample, const DataChoice& options, Split split);

}  // namespace faq
