#include "core/kernels/concat.h"

#include <cstring>
#include <vector>

#include "core/kernels/block.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// Copies `length` bytes of every pixel from one tensor of pixels to another.
void copy_columns(const std::byte* from, std::size_t from_pixel, std::byte* to, std::size_t to_pixel,
                  std::size_t length, std::int64_t pixels) {
  parallel_for(pixels, 256, [&](std::int64_t begin, std::int64_t end) {
    for (auto p = static_cast<std::size_t>(begin); p < static_cast<std::size_t>(end); ++p)
      std::memcpy(to + p * to_pixel, from + p * from_pixel, length);
  });
}

std::size_t pixel_bytes(const Tensor& x) {
  return static_cast<std::size_t>(x.dim(x.rank() - 1)) * size_of(x.dtype());
}

std::vector<Shape> shapes(std::span<const Tensor> parts) {
  std::vector<Shape> result;
  for (const Tensor& part : parts) result.push_back(part.shape());
  return result;
}

std::int64_t pixels(const Tensor& x) { return x.dim(0) * x.dim(1) * x.dim(2); }

}  // namespace

Shape concat_channels_shape(std::span<const Shape> parts) {
  check(!parts.empty(), "concat: nothing");
  std::int64_t channels = 0;
  for (const Shape& part : parts) {
    check(part.rank() == 4 && part.with(3, 1) == parts.front().with(3, 1), "concat: ", part, " after ",
          parts.front());
    channels += part[3];
  }
  return parts.front().with(3, channels);
}

Tensor concat_channels(std::span<const Tensor> parts) {
  const Shape shape = concat_channels_shape(shapes(parts));
  Tensor out = like(parts.front(), shape, parts.front().dtype());
  concat_channels(parts, out);
  return out;
}

void concat_channels(std::span<const Tensor> parts, Tensor& out) {
  const Booked booked(Work::fused);
  const Shape shape = concat_channels_shape(shapes(parts));
  const Tensor& first = parts.front();
  for (const Tensor& part : parts) {
    check(part.dtype() == first.dtype(), "concat: ", part.dtype(), " after ", first.dtype());
    check(part.is_fixed_point() == first.is_fixed_point() &&
              (!part.is_fixed_point() || part.fixed_point() == first.fixed_point()),
          "concat: scales are not tied");
  }
  expect_place("concat", out, shape, first.dtype());
  auto* to = static_cast<std::byte*>(out.mutable_raw());
  for (const Tensor& part : parts) {
    copy_columns(static_cast<const std::byte*>(part.raw()), pixel_bytes(part), to, pixel_bytes(out),
                 pixel_bytes(part), pixels(part));
    to += pixel_bytes(part);
  }
}

Tensor take_channels(const Tensor& x, std::int64_t first, std::int64_t count) {
  const Booked booked(Work::fused);
  check(x.rank() == 4 && first >= 0 && count >= 0 && first + count <= x.dim(3), "channels ", first, " to ",
        first + count, " of ", x.shape());
  Tensor out = like(x, x.shape().with(3, count), x.dtype());
  copy_columns(static_cast<const std::byte*>(x.raw()) + static_cast<std::size_t>(first) * size_of(x.dtype()),
               pixel_bytes(x), static_cast<std::byte*>(out.mutable_raw()), pixel_bytes(out), pixel_bytes(out),
               pixels(x));
  return out;
}

}  // namespace faq::kernels
