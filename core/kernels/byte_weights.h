// Weights of convolutions as tiles of bytes read them (byte_tiles.h). Included by core/kernels/*.cpp only,
// and by their tests.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// s8 weights of a convolution without groups.
struct ByteWeights {
  /// weights: O,I,H,W. A filter is `lines` lines of taps, each of all inputs, and zeros up to a multiple of
  /// byte_depth.
  ByteWeights(const Tensor& weights, std::int64_t lines);

  Tensor blocks;                    ///< see BytePanels::weights; zeros for outputs that there are not
  std::vector<std::int64_t> quads;  ///< see BytePanels
  int largest_pair;                 ///< of two bytes side by side: the largest magnitude of a sum of one sign
  bool has_least;                   ///< one is −128
};

}  // namespace faq::kernels
