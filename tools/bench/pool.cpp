// Pooling, and pixels on their way in.
#include "core/kernels/pool.h"
#include "core/kernels/pixels.h"
#include "tools/bench/bench.h"

namespace faq::bench {
namespace {

struct PoolRow {
  const char* name;
  Shape x;
  kernels::MaxPoolOptions options;
};
const PoolRow pool_rows[] = {
    {"resnet18/112x112x64_3x3_s2", {32, 112, 112, 64}, {}},
    {"vgg16/224x224x64_2x2_s2", {8, 224, 224, 64}, {.kernel = 2, .stride = 2, .padding = 0}},
    {"vgg16/14x14x512_2x2_s2", {8, 14, 14, 512}, {.kernel = 2, .stride = 2, .padding = 0}},
};

void add_max_pool(const PoolRow& row) {
  const Shape y = kernels::max_pool_shape(row.x, row.options);
  add(std::string("max_pool/") + row.name, {.items = row.x[0], .bytes = row.x.numel() + y.numel()},
      [=]() -> Kernel {
        return [=, x = quantized(row.x, {.bits = 8}), out = Tensor::empty(y, DType::u8)]() mutable {
          kernels::max_pool(x, row.options, out);
        };
      });
}

struct PixelRow {
  const char* name;
  Shape images;
};
const PixelRow pixel_rows[] = {
    {"224x224x3", {32, 224, 224, 3}},
    {"32x32x3", {128, 32, 32, 3}},
    {"28x28x1", {128, 28, 28, 1}},
};

void add_pixels(const PixelRow& row) {
  add(std::string("map_pixels/") + row.name, {.items = row.images[0], .bytes = 2 * row.images.numel()},
      [=]() -> Kernel {
        return [images = quantized(row.images, {.bits = 8}),
                table = quantized({row.images[3], 256}, {.bits = 8, .is_signed = true}),
                out = Tensor::empty(row.images, DType::s8)]() mutable {
          kernels::map_pixels(images, table, out);
        };
      });
}

}  // namespace

void add_pool() {
  for (const PoolRow& row : pool_rows) add_max_pool(row);
  for (const PixelRow& row : pixel_rows) add_pixels(row);
}

}  // namespace faq::bench
