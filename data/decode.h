// JPEG and PNG to pixels. libjpeg-turbo is used when it was found at build time, stb_image otherwise.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "data/image.h"

namespace faq {

/// Larger images are refused from their header, before anything is allocated.
inline constexpr std::int64_t max_pixels = 100'000'000;

/// Decodes to `channels` (1 grey or 3 RGB) channels. The kind is recognised by content, never by name. Throws
/// Error(bad_data) naming `name`: neither JPEG nor PNG, zero-sized or too large, truncated, corrupt, without
/// an end marker.
Image decode_image(std::span<const std::byte> bytes, int channels, const std::string& name);

/// Reads and decodes a file. Throws missing_input when it cannot be opened, io when reading fails.
Image load_image(const std::filesystem::path& file, int channels);

/// "libjpeg-turbo" or "stb_image": which decoder JPEG files go through.
const char* jpeg_decoder_name();

}  // namespace faq
