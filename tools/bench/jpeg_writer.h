// Photographs for the loader, made here: no data set is needed to time it.
#pragma once

#include <cstddef>
#include <vector>

#include "data/image.h"

namespace faq::bench {

/// An image with slopes, edges and noise, which a JPEG takes about as many bytes for as for a photograph.
Image photograph(int height, int width);
/// A baseline JPEG with halved colours (4:2:0).
std::vector<std::byte> jpeg_of(const Image& image);

}  // namespace faq::bench
