// Decoded images, and batches of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// Interleaved 8-bit pixels, row by row: pixels[(y * width + x) * channels + c].
struct Image {
  int height = 0;
  int width = 0;
  int channels = 3;
  std::vector<std::uint8_t> pixels;
  std::string fault = {};  ///< what is wrong with the file, though all pixels are there; mostly nothing
};

/// A batch from a loader for a network. Pixels stay integers, because the network's input layer normalises
/// them.
struct Batch {
  Tensor images;                           ///< u8, N,H,W,C
  std::vector<std::int32_t> labels;        ///< N class indices
  std::vector<std::int64_t> samples = {};  ///< N positions in the data set
  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
};

}  // namespace faq
