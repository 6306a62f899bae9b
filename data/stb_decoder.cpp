#include "data/stb_decoder.h"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <string_view>

#include "core/error.h"

namespace faq {
namespace {

/// Limits the memory that stb_image may allocate at a time. stb_image inflates all the data of a PNG, even if
/// the image needs little of it: a file of a megabyte can become gigabytes.
class AllocationLimit {
 public:
  explicit AllocationLimit(std::size_t bytes) {
    limit = bytes;
    refused = false;
  }
  ~AllocationLimit() { limit = unlimited; }
  AllocationLimit(const AllocationLimit&) = delete;
  AllocationLimit& operator=(const AllocationLimit&) = delete;

  static bool exceeded() { return refused; }

  static void* allocate(std::size_t bytes) { return allowed(bytes) ? std::malloc(bytes) : nullptr; }
  static void* reallocate(void* block, std::size_t bytes) {
    return allowed(bytes) ? std::realloc(block, bytes) : nullptr;
  }

 private:
  static bool allowed(std::size_t bytes) {
    if (bytes > limit) refused = true;
    return bytes <= limit;
  }

  static constexpr std::size_t unlimited = std::numeric_limits<std::size_t>::max();
  static inline thread_local std::size_t limit = unlimited;
  static inline thread_local bool refused = false;
};

}  // namespace
}  // namespace faq

#define STBI_MALLOC(bytes) faq::AllocationLimit::allocate(bytes)
#define STBI_REALLOC(block, bytes) faq::AllocationLimit::reallocate(block, bytes)
#define STBI_FREE(block) std::free(block)
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace faq {
namespace {

using Pixels = std::unique_ptr<stbi_uc, void (*)(void*)>;

struct Loaded {
  Pixels pixels{nullptr, stbi_image_free};
  int width = 0;
  int height = 0;
};

Loaded load(const stbi_uc* bytes, int size, int channels) {
  Loaded image;
  int components = 0;
  image.pixels.reset(stbi_load_from_memory(bytes, size, &image.width, &image.height, &components, channels));
  return image;
}

/// PIL converts 16-bit grey (and only that) to 8 bits by clipping. It does not drop the low byte.
Loaded load_clipped(const stbi_uc* bytes, int size) {
  Loaded image;
  int components = 0;
  stbi_us* wide = stbi_load_16_from_memory(bytes, size, &image.width, &image.height, &components, 1);
  image.pixels.reset(reinterpret_cast<stbi_uc*>(wide));
  if (wide) {
    const std::size_t n = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.height);
    for (std::size_t i = 0; i < n; ++i)
      image.pixels.get()[i] = static_cast<stbi_uc>(std::min<stbi_us>(wide[i], 255));
  }
  return image;
}

/// Returns a limit that is enough for any PNG of that size: the bytes of the file, and pixels of up to 8
/// bytes with a filter type before each row, each in a buffer that grows by doubling. A JPEG has no limit
/// here: it takes what its header says, and the header has been checked.
std::size_t enough_for(const ImageHeader& header, std::size_t file_bytes) {
  if (header.kind != ImageKind::png) return std::numeric_limits<std::size_t>::max();
  const auto pixels = static_cast<std::size_t>(header.width) * static_cast<std::size_t>(header.height);
  return (std::size_t{64} << 10) + 2 * file_bytes + 18 * pixels;
}

}  // namespace

Image decode_with_stb(std::span<const std::byte> bytes, const ImageHeader& header, int channels,
                      const std::string& name) {
  const char* kind = header.kind == ImageKind::png ? "PNG" : "JPEG";
  check(bytes.size() <= static_cast<std::size_t>(std::numeric_limits<int>::max()), ErrorKind::bad_data, name,
        ": ", kind, " of ", bytes.size(), " bytes is too large");
  const auto* data = reinterpret_cast<const stbi_uc*>(bytes.data());
  const int size = static_cast<int>(bytes.size());
  const bool wide_grey = header.components == 1 && header.bit_depth == 16;
  const AllocationLimit limit(enough_for(header, bytes.size()));
  const auto [pixels, width, height] = wide_grey ? load_clipped(data, size) : load(data, size, channels);
  if (!pixels) {
    check(!limit.exceeded(), ErrorKind::bad_data, name, ": corrupt ", kind, ": more data than ", header.width,
          " x ", header.height, " pixels need");
    const std::string_view reason = stbi_failure_reason();
    if (reason == "outofmem") throw std::bad_alloc();
    fail(ErrorKind::bad_data, name, ": ", kind, " cannot be decoded: ", reason);
  }
  check(width == header.width && height == header.height, ErrorKind::bad_data, name, ": ", kind,
        " header says ", header.width, " x ", header.height, ", its data ", width, " x ", height);
  Image image{height, width, channels, {}};
  image.pixels.assign(pixels.get(), pixels.get() + static_cast<std::size_t>(height) *
                                                       static_cast<std::size_t>(width) *
                                                       static_cast<std::size_t>(channels));
  return image;
}

}  // namespace faq
