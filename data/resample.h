// Pillow's resampling. Resizes a part of an image and computes only a part of the result.
#pragma once

#include "data/transforms.h"

namespace faq {

/// Resizes `source`, a part of `image`, to height x width, and returns the part `window` of the result. The
/// filter does not read pixels outside `source`.
Image resample(const Image& image, const Box& source, int height, int width, const Box& window,
               Interpolation interpolation);

}  // namespace faq
