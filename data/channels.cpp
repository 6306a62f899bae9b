#include "data/channels.h"

#include <utility>

#include "core/error.h"

namespace faq {

Image with_channels(Image image, int channels) {
  check(channels == 1 || channels == 3, "image: expected 1 or 3 channels, got ", channels);
  if (image.channels == channels) return image;
  Image out{image.height, image.width, channels, {}, std::move(image.fault)};
  const std::size_t pixels = image.pixels.size() / static_cast<std::size_t>(image.channels);
  out.pixels.resize(pixels * static_cast<std::size_t>(channels));
  const std::uint8_t* in = image.pixels.data();
  if (channels == 3) {
    for (std::size_t i = 0; i < pixels; ++i)
      for (std::size_t c = 0; c < 3; ++c) out.pixels[3 * i + c] = in[i];
  } else {
    // ITU-R 601-2 luma in 16-bit fixed point, PIL's constants; equal channels keep their value.
    for (std::size_t i = 0; i < pixels; ++i)
      out.pixels[i] = static_cast<std::uint8_t>(
          (in[3 * i] * 19595u + in[3 * i + 1] * 38470u + in[3 * i + 2] * 7471u + 0x8000u) >> 16);
  }
  return out;
}

}  // namespace faq
