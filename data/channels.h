// Converts grey images to colour and back, as PIL's convert("RGB") and convert("L").
#pragma once

#include "data/image.h"

namespace faq {

Image with_channels(Image image, int channels);

}  // namespace faq
