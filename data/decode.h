// Decodes JPEG and PNG, with libjpeg-turbo and libpng.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>

#include "data/image.h"

namespace faq {

/// Larger images are refused after reading their header, before anything is allocated.
inline constexpr std::int64_t max_pixels = 100'000'000;

/// Decodes to `channels` channels: 1 (grey) or 3 (RGB). The kind is recognised by content, never by name.
/// Throws Error(bad_data) with `name` for an image that is neither JPEG nor PNG, zero-sized or too large,
/// truncated, corrupt, or without an end marker. No pixel depends on anything but `bytes`. Image::fault says
/// what is wrong with a file that has all its pixels.
Image decode_image(std::span<const std::byte> bytes, int channels, const std::string& name);

/// Whether a file begins as a JPEG or PNG does; `head`: its first bytes, eight or more if it has as many.
bool begins_as_image(std::span<const std::byte> head);

/// Reads and decodes a file. Throws as decode_image and read_file do: missing_input when it cannot be opened,
/// io when reading fails.
Image load_image(const std::filesystem::path& file, int channels);

/// Returns the decoder of JPEG files: "libjpeg-turbo", or "libjpeg" for another library of its interface,
/// which gives other pixels.
const char* jpeg_decoder_name();

}  // namespace faq
