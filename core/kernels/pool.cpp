#include "core/kernels/pool.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

void check_images(const char* op, const Tensor& x) {
  check(x.rank() == 4, op, ": expected an N,H,W,C tensor, got ", x.shape());
}

template <class In, class Out>
void sum_pixels(const Tensor& x, Tensor& out) {
  const std::int64_t channels = x.dim(3);
  const std::int64_t pixels = x.dim(1) * x.dim(2);
  const In* from = x.data<In>();
  Out* to = out.mutable_data<Out>();
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      Out* sum = to + n * channels;
      std::fill_n(sum, channels, Out{});
      for (std::int64_t p = 0; p < pixels; ++p) {
        const In* pixel = from + (n * pixels + p) * channels;
        for (std::int64_t c = 0; c < channels; ++c) sum[c] += static_cast<Out>(pixel[c]);
      }
    }
  });
}

}  // namespace

Tensor global_sum_pool(const Tensor& x) {
  check_images("global pooling", x);
  Tensor out = like(x, {x.dim(0), 1, 1, x.dim(3)}, x.dtype() == DType::f32 ? DType::f32 : DType::s32);
  global_sum_pool(x, out);
  return out;
}

void global_sum_pool(const Tensor& x, Tensor& out) {
  check_images("global pooling", x);
  expect_place("global pooling", out, {x.dim(0), 1, 1, x.dim(3)},
               x.dtype() == DType::f32 ? DType::f32 : DType::s32);
  switch (x.dtype()) {
    case DType::f32:
      return sum_pixels<float, float>(x, out);
    case DType::u8:
      return sum_pixels<std::uint8_t, std::int32_t>(x, out);
    case DType::s8:
      return sum_pixels<std::int8_t, std::int32_t>(x, out);
    default:
      fail(ErrorKind::internal, "global pooling: f32, u8 or s8, got ", x.dtype());
  }
}

FixedPoint mean_format(const FixedPoint& x, std::int64_t pixels) {
  return {.scale = x.scale * (1.0f / static_cast<float>(pixels)), .bits = 32, .is_signed = true};
}

Tensor global_sum_pool_backward(const Tensor& dy, const Shape& x, float factor) {
  Tensor dx = Tensor::empty(x, dy.dtype());
  void* out = dx.mutable_raw();
  const std::int64_t channels = x[3];
  const std::int64_t pixels = x[1] * x[2];
  parallel_for(x[0], 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> row(channels);
    for (std::int64_t n = begin; n < end; ++n) {
      load_block(dy, n * channels, channels, row.data());
      for (float& value : row) value *= factor;
      for (std::int64_t p = 0; p < pixels; ++p) {
        store_block(out, dx.dtype(), (n * pixels + p) * channels, channels, row.data());
      }
    }
  });
  return dx;
}

Shape subsample_and_pad_shape(const Shape& x, int stride, std::int64_t channels) {
  check(x.rank() == 4, "shortcut: expected an N,H,W,C tensor, got ", x);
  check(stride > 0 && channels >= x[3], "shortcut: ", x[3], " channels to ", channels, ", stride ", stride);
  return {x[0], divided_up(x[1], stride), divided_up(x[2], stride), channels};
}

Tensor subsample_and_pad(const Tensor& x, int stride, std::int64_t channels) {
  Tensor y = like(x, subsample_and_pad_shape(x.shape(), stride, channels), x.dtype());
  subsample_and_pad(x, stride, channels, y);
  return y;
}

void subsample_and_pad(const Tensor& x, int stride, std::int64_t channels, Tensor& out) {
  const Shape shape = subsample_and_pad_shape(x.shape(), stride, channels);
  expect_place("shortcut", out, shape, x.dtype());
  const std::size_t element = size_of(x.dtype());
  const std::size_t before = static_cast<std::size_t>((channels - x.dim(3)) / 2) * element;
  const std::size_t pixel = static_cast<std::size_t>(x.dim(3)) * element;
  const std::size_t wide = static_cast<std::size_t>(channels) * element;
  const auto* from = static_cast<const std::byte*>(x.raw());
  auto* to = static_cast<std::byte*>(out.mutable_raw());
  parallel_for(shape[0] * shape[1], 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / shape[1];
      const std::int64_t iy = row % shape[1] * stride;
      for (std::int64_t ox = 0; ox < shape[2]; ++ox) {
        std::byte* target = to + (row * shape[2] + ox) * static_cast<std::int64_t>(wide);
        std::memset(target, 0, wide);
        std::memcpy(target + before,
                    from + ((n * x.dim(1) + iy) * x.dim(2) + ox * stride) * static_cast<std::int64_t>(pixel),
                    pixel);
      }
    }
  });
}

Tensor subsample_and_pad_backward(const Tensor& dy, const Shape& x, int stride) {
  Tensor dx = Tensor::zeros(x, dy.dtype());
  const auto element = static_cast<std::int64_t>(size_of(dy.dtype()));
  const std::int64_t before = (dy.dim(3) - x[3]) / 2 * element;
  const std::int64_t pixel = x[3] * element;
  const auto* from = static_cast<const std::byte*>(dy.raw());
  auto* to = static_cast<std::byte*>(dx.mutable_raw());
  parallel_for(dy.dim(0) * dy.dim(1), 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / dy.dim(1);
      const std::int64_t iy = row % dy.dim(1) * stride;
      for (std::int64_t ox = 0; ox < dy.dim(2); ++ox) {
        std::memcpy(to + ((n * x[1] + iy) * x[2] + ox * stride) * pixel,
                    from + (row * dy.dim(2) + ox) * dy.dim(3) * element + before,
                    static_cast<std::size_t>(pixel));
      }
    }
  });
  return dx;
}

}  // namespace faq::kernels
