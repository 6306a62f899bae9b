// The JPEG decoder. It is in jpeg_turbo.cpp or jpeg_stb.cpp; CMake chooses one.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "data/image.h"
#include "data/image_header.h"

namespace faq {

/// Decodes a JPEG that read_image_header has accepted. Grey gives 1 channel, everything else RGB. Throws
/// bad_data with `name`.
Image decode_jpeg(std::span<const std::byte> bytes, const ImageHeader& header, const std::string& name);

/// Also declared in decode.h: the name of this decoder.
const char* jpeg_decoder_name();

}  // namespace faq
