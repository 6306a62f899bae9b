#include "core/kernels/pixels.h"

#include "core/kernels/block.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

// `fixed`: the number of channels if known at compile time, else 0.
template <int fixed, class T>
void map_rows(const std::uint8_t* from, const T* table, std::int64_t channels, T* to, std::int64_t pixels) {
  if (fixed > 0) channels = fixed;
  for (std::int64_t p = 0; p < pixels; ++p, from += channels, to += channels) {
    for (std::int64_t c = 0; c < channels; ++c) to[c] = table[c * 256 + from[c]];
  }
}

template <class T>
void map_as(const Tensor& images, const Tensor& table, Tensor& out) {
  const std::int64_t channels = images.dim(3);
  const auto rows = channels == 3 ? map_rows<3, T> : channels == 1 ? map_rows<1, T> : map_rows<0, T>;
  const std::uint8_t* from = images.data<std::uint8_t>();
  const T* values = table.data<T>();
  T* to = out.mutable_data<T>();
  parallel_for(images.numel() / channels, 1 << 12, [&](std::int64_t begin, std::int64_t end) {
    rows(from + begin * channels, values, channels, to + begin * channels, end - begin);
  });
}

}  // namespace

Tensor map_pixels(const Tensor& images, const Tensor& table) {
  Tensor out = Tensor::empty(images.shape(), table.dtype());
  if (table.is_fixed_point()) out.set_fixed_point(table.fixed_point());
  map_pixels(images, table, out);
  return out;
}

void map_pixels(const Tensor& images, const Tensor& table, Tensor& out) {
  check(images.rank() == 4 && images.dtype() == DType::u8, "input: expected u8 N,H,W,C images, got ",
        images.dtype(), " ", images.shape());
  check(table.rank() == 2 && table.dim(0) == images.dim(3) && table.dim(1) == 256, "input: images of ",
        images.dim(3), " channels, a table of ", table.shape());
  expect_place("input", out, images.shape(), table.dtype());
  switch (table.dtype()) {
    case DType::f32:
      map_as<float>(images, table, out);
      return;
    case DType::s8:
      map_as<std::int8_t>(images, table, out);
      return;
    case DType::u8:
      map_as<std::uint8_t>(images, table, out);
      return;
    default:
      fail(ErrorKind::internal, "input: table of ", table.dtype());
  }
}

}  // namespace faq::kernels
