// Image files taken apart, put together and damaged: for the tests of the decoders, and for the campaign that
// feeds them (tools/campaigns/images.py).
#pragma once

#include <string>
#include <vector>

#include "core/rng.h"

namespace faq::testing {

/// The start marker, then the segments, each scan with its data, then the end marker with all that follows.
std::vector<std::string> jpeg_parts(const std::string& file);

struct Chunk {
  std::string type;
  std::string data;
};
/// Ends where the file does not go on as a PNG.
std::vector<Chunk> png_chunks(const std::string& file);
/// With the checksums that belong there.
std::string png_file(const std::vector<Chunk>& chunks);
inline std::string with_checksums(const std::string& png) { return png_file(png_chunks(png)); }

/// The header chunk of a PNG.
Chunk png_header(int height, int width, int depth, int color, bool interlaced = false);

std::string deflated(const std::string& bytes);
/// What can be inflated of `bytes`.
std::string inflated(const std::string& bytes);

struct JpegOptions {
  int height = 19;
  int width = 27;
  int components = 3;  ///< 1 grey, 3 in `color`, 4 in `color`
  int color = 0;       ///< a J_COLOR_SPACE of the file; 0: the usual one
  int across = 2;      ///< subsampling of the colours
  int down = 2;
  int quality = 85;
  int restart = 0;  ///< blocks between restarts
  bool progressive = false;
  bool separate = false;  ///< one scan for each component
  bool jfif = true;
  bool optimal = false;  ///< Huffman tables made for the image
  bool arithmetic = false;
};
std::string jpeg_file(const JpegOptions& options);

struct ImageFile {
  std::string name;
  std::string bytes;
};
/// Valid files of every kind that the formats have and we decode, many of them unusual.
std::vector<ImageFile> odd_images();

/// The file with up to three changes: of bytes anywhere, of parts with the checksums made right, of pixels
/// before they are compressed, with parts of `other`.
std::string mutated(const std::string& file, const std::string& other, Random& random);

}  // namespace faq::testing
