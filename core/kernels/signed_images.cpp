#include "core/kernels/signed_images.h"

#include <cstring>

#include "core/cpu.h"
#include "core/parallel.h"

namespace faq::kernels {

Tensor shifted_and_padded(const Tensor& x, const Padding& padding) {
  const std::int64_t height = x.dim(1) + padding.top + padding.bottom;
  const std::int64_t width = x.dim(2) + padding.left + padding.right;
  const std::int64_t channels = x.dim(3);
  Tensor out = Tensor::empty({x.dim(0), height, width, channels}, DType::u8);
  std::uint8_t* to = out.mutable_data<std::uint8_t>();
  const std::int8_t* from = x.data<std::int8_t>();
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      std::uint8_t* image = to + n * height * width * channels;
      std::memset(image, 128, static_cast<std::size_t>(height * width * channels));
      for (std::int64_t y = 0; y < x.dim(1); ++y) {
        const std::int8_t* row = from + (n * x.dim(1) + y) * x.dim(2) * channels;
        std::uint8_t* target = image + ((y + padding.top) * width + padding.left) * channels;
        const std::int64_t length = x.dim(2) * channels;
        for (std::int64_t i = 0; i < length; ++i) target[i] = static_cast<std::uint8_t>(row[i] ^ 0x80);
      }
    }
  });
  return out;
}

bool takes_signed_images(const ConvGeometry& geometry) {
  return has_avx512_vnni() &&
         (geometry.padding == 0 || (geometry.kernel.height <= 3 && geometry.kernel.width <= 3));
}

}  // namespace faq::kernels
