// Pillow's resampling, of a part of an image into a part of the result.
#pragma once

#include "data/transforms.h"

namespace faq {

/// The part `window` of `source` (itself a part of `image`, which the filter does not see beyond) resized to
/// height x width.
Image resample(const Image& image, const Box& source, int height, int width, const Box& window);

}  // namespace faq
