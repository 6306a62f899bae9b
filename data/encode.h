// Encodes small images, for pages that show them.
#pragma once

#include <string>

#include "data/image.h"

namespace faq {

/// Returns the image as a JPEG without subsampled colours. `quality`: 1 to 100. Throws internal for an image
/// whose pixels are not those of its size, or that has neither 1 nor 3 channels.
std::string encode_jpeg(const Image& image, int quality);

}  // namespace faq
