// The JPEG decoder, one of jpeg_turbo.cpp and jpeg_stb.cpp; CMake chooses.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "data/image.h"
#include "data/image_header.h"

namespace faq {

/// Decodes a JPEG whose structure read_image_header found whole: grey to 1 channel, everything else to RGB.
/// Throws bad_data naming `name`.
Image decode_jpeg(std::span<const std::byte> bytes, const ImageHeader& header, const std::string& name);

/// What decode.h's function of this name returns.
const char* jpeg_decoder_name();

}  // namespace faq
