// stb_image behind one function. It decodes every PNG, and JPEG if libjpeg-turbo was not found.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "data/image.h"
#include "data/image_header.h"

namespace faq {

/// Decodes to `channels` channels, 1 or 3; alpha is dropped. stb_image trusts the file, so the file must have
/// passed read_image_header first. Throws bad_data with `name`.
Image decode_with_stb(std::span<const std::byte> bytes, const ImageHeader& header, int channels,
                      const std::string& name);

}  // namespace faq
