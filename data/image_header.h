// What an image file claims to be, checked before any decoder sees it.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace faq {

enum class ImageKind { jpeg, png };

struct ImageHeader {
  ImageKind kind = ImageKind::jpeg;
  int height = 0;
  int width = 0;
  int components = 0;  ///< of the file: 1 grey, 2 grey and alpha (PNG), 3 RGB, 4 CMYK (JPEG) or RGBA (PNG)
  int bit_depth = 8;
};

/// Scans of a progressive JPEG beyond this are an attack on the decoder's time; encoders write about ten.
inline constexpr int max_jpeg_scans = 100;

/// Walks the segments of a JPEG or the chunks of a PNG from the first byte to the end marker. Throws bad_data
/// naming `name` unless the file is structurally whole, of a kind we decode, and of a size that is neither
/// zero nor beyond max_pixels nor beyond what so many compressed bytes can hold. Bytes after the end marker
/// are ignored.
ImageHeader read_image_header(std::span<const std::byte> bytes, const std::string& name);

}  // namespace faq
