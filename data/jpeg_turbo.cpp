#include <turbojpeg.h>

#include <memory>
#include <new>
#include <string_view>

#include "core/error.h"
#include "data/jpeg.h"

namespace faq {
namespace {

struct Destroy {
  void operator()(void* handle) const { tjDestroy(handle); }
};

/// One decoder per thread, kept: starting one costs as much as decoding a thumbnail.
tjhandle decoder() {
  thread_local std::unique_ptr<void, Destroy> handle(tjInitDecompress());
  if (!handle) throw std::bad_alloc();
  return handle.get();
}

/// CMYK as Photoshop writes it (inverted, which PIL assumes too) to RGB, in PIL's arithmetic.
void cmyk_to_rgb(const std::vector<std::uint8_t>& cmyk, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0, n = cmyk.size() / 4; i < n; ++i) {
    const int k = cmyk[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * i + c]) * k + 128;
      rgb[3 * i + c] = static_cast<std::uint8_t>(k - ((product + (product >> 8)) >> 8));
    }
  }
}

}  // namespace

const char* jpeg_decoder_name() { return "libjpeg-turbo"; }

Image decode_jpeg(std::span<const std::byte> bytes, const ImageHeader& header, const std::string& name) {
  const bool cmyk = header.components == 4;
  const int format = cmyk ? TJPF_CMYK : header.components == 1 ? TJPF_GRAY : TJPF_RGB;
  const auto pixels = static_cast<std::size_t>(header.height) * static_cast<std::size_t>(header.width);
  Image image{header.height, header.width, header.components == 1 ? 1 : 3, {}};
  std::vector<std::uint8_t> raw(pixels * static_cast<std::size_t>(tjPixelSize[format]));

  // A warning means damaged data. Exact integer DCT and smooth upsampling, the defaults, are what PIL uses.
  constexpr int flags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
  const tjhandle handle = decoder();
  // Width, height and pitch are ours: whatever the decoder reads from the file, it stays within `raw`.
  const int status =
      tjDecompress2(handle, reinterpret_cast<const unsigned char*>(bytes.data()), bytes.size(), raw.data(),
                    header.width, header.width * tjPixelSize[format], header.height, format, flags);
  if (status != 0) {
    const std::string_view reason = tjGetErrorStr2(handle);
    if (reason.find("Insufficient memory") != reason.npos || reason.find("allocation failure") != reason.npos)
      throw std::bad_alloc();
    fail(ErrorKind::bad_data, name, ": JPEG cannot be decoded: ", reason);
  }
  if (cmyk) {
    image.pixels.resize(pixels * 3);
    cmyk_to_rgb(raw, image.pixels);
  } else {
    image.pixels = std::move(raw);
  }
  return image;
}

}  // namespace faq
