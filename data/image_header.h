// The header of an image file, checked before any decoder reads the file.
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
  int components = 0;  ///< in the file: 1 grey, 2 grey and alpha (PNG), 3 RGB, 4 CMYK (JPEG) or RGBA (PNG)
  int bit_depth = 8;
};

/// The most scans of a progressive JPEG. Encoders write about ten; more than this is an attack on the
/// decoder's time.
inline constexpr int max_jpeg_scans = 100;

/// Walks the segments of a JPEG or the chunks of a PNG from the first byte to the end marker. Throws bad_data
/// with `name` if the file is not structurally complete, if it is of a kind we do not decode, or if its size
/// is zero, larger than max_pixels, or larger than its compressed bytes can hold. Bytes after the end marker
/// are ignored.
ImageHeader read_image_header(std::span<const std::byte> bytes, const std::string& name);

}  // namespace faq
