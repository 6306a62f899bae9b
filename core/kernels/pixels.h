// From pixels to the network's input in one pass.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// out = table[c][pixel]. images: u8 N,H,W,C; table: C,256 f32, s8 or u8, whose dtype and scale the result
/// has.
Tensor map_pixels(const Tensor& images, const Tensor& table);
/// The same into `out`, of the images' shape and the table's dtype; its scale is the caller's to set.
void map_pixels(const Tensor& images, const Tensor& table, Tensor& out);

}  // namespace faq::kernels
