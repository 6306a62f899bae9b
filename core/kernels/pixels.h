// Maps pixels to the network's input in one pass.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// out = table[c][pixel]. images: u8 N,H,W,C; table: C,256 f32, s8 or u8. The result has the dtype and scale
/// of the table.
Tensor map_pixels(const Tensor& images, const Tensor& table);
/// The same into `out`, which has the shape of the images and the dtype of the table. The caller sets its
/// scale.
void map_pixels(const Tensor& images, const Tensor& table, Tensor& out);

}  // namespace faq::kernels
