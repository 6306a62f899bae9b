#include "core/kernels/concat.h"

#include <cstring>

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

std::int64_t pixels(const Tensor& x) { return x.dim(0) * x.dim(1) * x.dim(2); }

}  // namespace

Tensor concat_channels(std::span<const Tensor> parts) {
  const Booked booked(Work::fused);
  check(!parts.empty(), "concat: nothing");
  const Tensor& first = parts.front();
  std::int64_t channels = 0;
  for (const Tensor& part : parts) {
    check(part.rank() == 4 && part.shape().with(3, 1) == first.shape().with(3, 1) &&
              part.dtype() == first.dtype(),
          "concat: ", part.dtype(), " ", part.shape(), " after ", first.dtype(), " ", first.shape());
    check(part.is_fixed_point() == first.is_fixed_point() &&
              (!part.is_fixed_point() || part.fixed_point() == first.fixed_point()),
          "concat: steps are not tied");
    channels += part.dim(3);
  }
  Tensor out = like(first, first.shape().with(3, channels), first.dtype());
  auto* to = static_cast<std::byte*>(out.mutable_raw());
  for (const Tensor& part : parts) {
    copy_columns(static_cast<const std::byte*>(part.raw()), pixel_bytes(part), to, pixel_bytes(out),
                 pixel_bytes(part), pixels(part));
    to += pixel_bytes(part);
  }
  return out;
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
