#include "core/kernels/pool.h"

#include <algorithm>
#include <vector>

#include "core/kernels/block.h"
#include "core/kernels/pool_shape.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// Compares one element of every window of a row of channels; the first one is copied. `tap` counts the
// elements of a window. Of equal elements the first one wins.
template <class T>
[[gnu::always_inline]] inline void max_loop(T* largest, const T* x, std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) largest[c] = x[c] > largest[c] ? x[c] : largest[c];
}
template <class T>
[[gnu::always_inline]] inline void argmax_loop(T* __restrict largest, T* __restrict winner, const T* x, T tap,
                                               std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) {
    const bool larger = x[c] > largest[c];
    largest[c] = larger ? x[c] : largest[c];
    winner[c] = larger ? tap : winner[c];
  }
}
template <class T>
[[gnu::always_inline]] inline void give_loop(float* __restrict dx, const float* dy, const T* winner, T tap,
                                             std::int64_t n) {
  for (std::int64_t c = 0; c < n; ++c) {
    const float g = dy[c];
    dx[c] += winner[c] == tap ? g : 0.0f;
  }
}
#define FAQ_MAX(T)                                                                            \
  FAQ_SIMD void max_of(T* largest, const T* x, std::int64_t n) { max_loop(largest, x, n); }   \
  FAQ_SIMD void argmax_of(T* largest, T* winner, const T* x, T tap, std::int64_t n) {         \
    argmax_loop(largest, winner, x, tap, n);                                                  \
  }                                                                                           \
  FAQ_SIMD void give_to(float* dx, const float* dy, const T* winner, T tap, std::int64_t n) { \
    give_loop(dx, dy, winner, tap, n);                                                        \
  }
FAQ_MAX(float)
FAQ_MAX(std::uint8_t)
FAQ_MAX(std::int8_t)
#undef FAQ_MAX

// Calls body(output pixel, input offset, tap) for the elements of every window of an image that lie inside
// the image. The elements of a window come in order, the first with tap 0. `body` handles all channels.
template <class Body>
void for_each_window(const Shape& x, const Shape& y, const MaxPoolOptions& o, Body body) {
  for (std::int64_t oy = 0; oy < y[1]; ++oy) {
    for (std::int64_t ox = 0; ox < y[2]; ++ox) {
      int tap = 0;
      for (std::int64_t iy = std::max<std::int64_t>(0, oy * o.stride - o.padding);
           iy < std::min<std::int64_t>(x[1], oy * o.stride - o.padding + o.kernel); ++iy) {
        for (std::int64_t ix = std::max<std::int64_t>(0, ox * o.stride - o.padding);
             ix < std::min<std::int64_t>(x[2], ox * o.stride - o.padding + o.kernel); ++ix) {
          body(oy * y[2] + ox, (iy * x[2] + ix) * x[3], tap++);
        }
      }
    }
  }
}

// First the maximum over the rows of a window, for all columns and channels at once, then over its columns.
template <class T>
void max_pool_of(const Tensor& x, Tensor& y, const MaxPoolOptions& o) {
  const T* from = x.data<T>();
  T* to = y.mutable_data<T>();
  const std::int64_t height = x.dim(1), width = x.dim(2), channels = x.dim(3);
  const std::int64_t row_length = width * channels, rows = y.dim(1);
  parallel_for(y.dim(0) * rows, 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> tallest(row_length);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t top = row % rows * o.stride - o.padding;
      const T* image = from + row / rows * height * row_length;
      const std::int64_t first = std::max<std::int64_t>(0, top), last = std::min(height, top + o.kernel);
      std::copy_n(image + first * row_length, row_length, tallest.data());
      for (std::int64_t iy = first + 1; iy < last; ++iy)
        max_of(tallest.data(), image + iy * row_length, row_length);
      for (std::int64_t ox = 0; ox < y.dim(2); ++ox) {
        const std::int64_t left = ox * o.stride - o.padding;
        T* largest = to + (row * y.dim(2) + ox) * channels;
        const std::int64_t begin_x = std::max<std::int64_t>(0, left),
                           end_x = std::min(width, left + o.kernel);
        std::copy_n(&tallest[begin_x * channels], channels, largest);
        for (std::int64_t ix = begin_x + 1; ix < end_x; ++ix)
          max_of(largest, &tallest[ix * channels], channels);
      }
    }
  });
}

template <class T>
void max_pool_backward_of(const Tensor& dy, const Tensor& x, const MaxPoolOptions& options, Tensor& dx) {
  const Shape y = dy.shape();
  const std::int64_t channels = x.dim(3);
  const std::int64_t image = x.dim(1) * x.dim(2) * channels;
  const std::int64_t pixels = y[1] * y[2];
  const T* from = x.data<T>();
  void* to = dx.mutable_raw();
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<T> largest(pixels * channels), winner(pixels * channels);
    AlignedVector<float> gradient(pixels * channels), sum(image);
    for (std::int64_t n = begin; n < end; ++n) {
      const T* in = from + n * image;
      for_each_window(x.shape(), y, options, [&](std::int64_t pixel, std::int64_t i, int tap) {
        T* best = &largest[pixel * channels];
        T* who = &winner[pixel * channels];
        if (tap == 0) {
          std::copy_n(in + i, channels, best);
          std::fill_n(who, channels, T{});
        } else {
          argmax_of(best, who, in + i, static_cast<T>(tap), channels);
        }
      });
      load_block(dy, n * pixels * channels, pixels * channels, gradient.data());
      std::ranges::fill(sum, 0.0f);
      for_each_window(x.shape(), y, options, [&](std::int64_t pixel, std::int64_t i, int tap) {
        give_to(&sum[i], &gradient[pixel * channels], &winner[pixel * channels], static_cast<T>(tap),
                channels);
      });
      store_block(to, dx.dtype(), n * image, image, sum.data());
    }
  });
}

}  // namespace

Shape max_pool_shape(const Shape& x, const MaxPoolOptions& o) {
  check(o.kernel <= 11, "max pooling: a window of ", o.kernel, ", at most 11");
  return pooled("max pooling", x, o.kernel, o.stride, o.padding);
}

Tensor max_pool(const Tensor& x, const MaxPoolOptions& options) {
  Tensor y = like(x, max_pool_shape(x.shape(), options), x.dtype());
  max_pool(x, options, y);
  return y;
}

void max_pool(const Tensor& x, const MaxPoolOptions& options, Tensor& out) {
  const Booked booked(Work::fused);
  expect_place("max pooling", out, max_pool_shape(x.shape(), options), x.dtype());
  switch (x.dtype()) {
    case DType::f32:
      return max_pool_of<float>(x, out, options);
    case DType::u8:
      return max_pool_of<std::uint8_t>(x, out, options);
    case DType::s8:
      return max_pool_of<std::int8_t>(x, out, options);
    default:
      fail(ErrorKind::internal, "max pooling: f32, u8 or s8, got ", x.dtype());
  }
}

Tensor max_pool_backward(const Tensor& dy, const Tensor& x, const MaxPoolOptions& options) {
  const Booked booked(Work::fused);
  const Shape y = max_pool_shape(x.shape(), options);
  check(dy.shape() == y, "max pooling backward: gradient ", dy.shape(), " for an output of ", y);
  Tensor dx = Tensor::empty(x.shape(), dy.dtype());
  switch (x.dtype()) {
    case DType::f32:
      max_pool_backward_of<float>(dy, x, options, dx);
      return dx;
    case DType::u8:
      max_pool_backward_of<std::uint8_t>(dy, x, options, dx);
      return dx;
    case DType::s8:
      max_pool_backward_of<std::int8_t>(dy, x, options, dx);
      return dx;
    default:
      fail(ErrorKind::internal, "max pooling backward: f32, u8 or s8, got ", x.dtype());
  }
}

}  // namespace faq::kernels
