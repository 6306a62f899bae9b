#include "tools/bench/jpeg_writer.h"

#include <cmath>

#include "core/error.h"
#include "core/rng.h"

#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STB_IMAGE_WRITE_STATIC
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image_write.h>
#pragma GCC diagnostic pop

namespace faq::bench {

Image photograph(int height, int width) {
  Image image{height, width, 3, {}};
  Random random(0, RandomStream::synthetic);
  for (int y = 0; y < height; ++y) {
    for (int x = 0; x < width; ++x) {
      const double slope = 60 * std::sin(x * 0.02) + 40 * std::cos(y * 0.03);
      const double edge = (x / 40 + y / 30) % 2 == 0 ? 20 : -20;
      const double noise = random.uniform(-6, 6);
      for (int c = 0; c < 3; ++c)
        image.pixels.push_back(static_cast<std::uint8_t>(128 + slope * (3 - c) / 3 + edge + noise));
    }
  }
  return image;
}

std::vector<std::byte> jpeg_of(const Image& image) {
  constexpr int quality = 90;  // the highest at which stb_image_write halves the colours
  std::vector<std::byte> bytes;
  const auto append = [](void* context, void* data, int size) {
    const auto* from = static_cast<const std::byte*>(data);
    auto& to = *static_cast<std::vector<std::byte>*>(context);
    to.insert(to.end(), from, from + size);
  };
  const int done = stbi_write_jpg_to_func(append, &bytes, image.width, image.height, image.channels,
                                          image.pixels.data(), quality);
  check(done != 0, "jpeg: stb_image_write wrote nothing of an image of ", image.width, "×", image.height);
  return bytes;
}

}  // namespace faq::bench
