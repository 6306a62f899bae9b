// Deployed convolutions whose sums are requantized where they are made, in the first-level cache.
#pragma once

#include "core/kernels/byte_tiles.h"
#include "core/kernels/conv_geometry.h"
#include "core/kernels/requantizer.h"
#include "core/kernels/weight_forms.h"
#include "core/tensor.h"

namespace faq::kernels {

/// True if conv2d_in_tiles() computes this convolution: it has no groups, and its sums fit into s32.
bool fits_tiles(const Shape& weights, const ConvGeometry& geometry);
/// True if it fits, and tiles do not multiply mostly zeros: filters have many taps or channels, and are many.
bool suits_tiles(const Shape& weights, const ConvGeometry& geometry);
/// True if tiles suit, and are faster: always with AMX; without VNNI for long filters, and for weights that
/// conv2d_integer() would divide.
bool pays_in_tiles(WeightForms& weights, const ConvGeometry& geometry, const ByteTiles& tiles);

/// out = requantize(conv2d_integer(x, weights), residual), the same integers, on all threads. x: u8 or s8.
/// Precondition: fits_tiles().
void conv2d_in_tiles(const Tensor& x, WeightForms& weights, const ConvGeometry& geometry,
                     const ByteTiles& tiles, const Requantizer& requantizer, const Tensor& residual,
                     Tensor& out);

}  // namespace faq::kernels
