// stb_image behind one function: PNG always, JPEG when libjpeg-turbo is not there.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "data/image.h"
#include "data/image_header.h"

namespace faq {

/// Decodes to 1 or 3 `channels`; alpha is dropped. stb_image believes what the file says, so the file must
/// have passed read_image_header. Throws bad_data naming `name`.
Image decode_with_stb(std::span<const std::byte> bytes, const ImageHeader& header, int channels,
                      const std::string& name);

}  // namespace faq
