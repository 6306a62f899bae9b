// Signed images in front of a convolution of unsigned ones.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// s8 images N,H,W,C plus 128 as u8, with a border of 128, which stands for zero.
Tensor shifted_and_padded(const Tensor& x, const Padding& padding);

/// True if oneDNN gets signed images as they are. Its kernels for them shift the loaded values by 128 and
/// treat the border as zero. Without VNNI they halve the weights, which is not exact. With a border and a
/// kernel larger than 3×3 they are slower than a copy and the kernel for unsigned images
/// (docs/performance.md, "What was tried").
bool takes_signed_images(const ConvGeometry& geometry);

}  // namespace faq::kernels
