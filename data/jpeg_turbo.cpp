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

/// One decoder per thread. It is kept, because creating one costs as much as decoding a thumbnail.
tjhandle decoder() {
  thread_local std::unique_ptr<void, Destroy> handle(tjInitDecompress());
  if (!handle) throw std::bad_alloc();
  return handle.get();
}

/// Converts CMYK to RGB in PIL's arithmetic. The CMYK is inverted, as Photoshop writes it and PIL assumes.
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

  // A warning means damaged data, so decoding stops. PIL uses exact integer DCT and smooth upsampling too
  // (the defaults).
  constexpr int flags = TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS;
  const tjhandle handle = decoder();
  // Width, height and pitch come from the checked header, so the decoder stays within `raw` whatever the file
  // says.
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
