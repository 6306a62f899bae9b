#include "core/kernels/pool.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/kernels/block.h"
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

void check_images(const char* op, const Tensor& x) {
  check(x.rank() == 4, op, ": expected an N,H,W,C tensor, got ", x.shape());
}

// The shape of an image after windows with this stride and padding.
Shape pooled(const char* op, const Shape& x, std::int64_t kernel, std::int64_t stride, std::int64_t padding) {
  check(x.rank() == 4, op, ": expected an N,H,W,C tensor, got ", x);
  check(kernel > 0 && stride > 0 && padding >= 0 && 2 * padding <= kernel, op, ": kernel ", kernel,
        ", stride ", stride, ", padding ", padding);
  check(x[1] > 0 && x[2] > 0, op, ": an empty image ", x);
  const std::int64_t height = x[1] + 2 * padding - kernel, width = x[2] + 2 * padding - kernel;
  check(height >= 0 && width >= 0, ErrorKind::usage, op, ": a window of ", kernel, " does not fit ", x,
        ": larger images are needed");
  return {x[0], height / stride + 1, width / stride + 1, x[3]};
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

// One dimension of an average pooling: the pixels of each window inside the image, and the number the window
// counts.
struct Window {
  std::int64_t begin, end;
  std::int64_t counted;
};
std::vector<Window> windows(std::int64_t size, std::int64_t out, const AvgPoolOptions& o) {
  std::vector<Window> result;
  for (std::int64_t i = 0; i < out; ++i) {
    if (o.output > 0) {
      const std::int64_t begin = i * size / out, end = ((i + 1) * size + out - 1) / out;
      result.push_back({begin, end, end - begin});
    } else {
      const std::int64_t begin = i * o.stride - o.padding;
      result.push_back(
          {std::max<std::int64_t>(begin, 0), std::min<std::int64_t>(begin + o.kernel, size), o.kernel});
    }
  }
  return result;
}

FAQ_SIMD void add_to(float* sum, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += x[i];
}
// Divides instead of multiplying by an inverse, because a tie must stay a tie.
FAQ_SIMD void divide(float* x, float divisor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] /= divisor;
}
FAQ_SIMD void divide_and_round(float* x, float divisor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = round_half_even_in_range(x[i] / divisor);
}

// The windows of an average pooling.
struct Averages {
  std::vector<Window> rows, columns;
  std::int64_t width;  // of the images

  Averages(const Shape& x, const Shape& y, const AvgPoolOptions& o)
      : rows(windows(x[1], y[1], o)), columns(windows(x[2], y[2], o)), width(x[2]) {}

  // Calls body(output pixel, input pixel) for the pixels of every window of a row, and done(output pixel,
  // count) after the last pixel of each window.
  template <class Body, class Done>
  void for_each_of_row(std::int64_t oy, Body body, Done done) const {
    for (std::size_t ox = 0; ox < columns.size(); ++ox) {
      const auto out = oy * static_cast<std::int64_t>(columns.size()) + static_cast<std::int64_t>(ox);
      for (std::int64_t iy = rows[oy].begin; iy < rows[oy].end; ++iy) {
        for (std::int64_t ix = columns[ox].begin; ix < columns[ox].end; ++ix) body(out, iy * width + ix);
      }
      done(out, static_cast<float>(rows[oy].counted * columns[ox].counted));
    }
  }
  template <class Body, class Done>
  void for_each(Body body, Done done) const {
    for (std::size_t oy = 0; oy < rows.size(); ++oy)
      for_each_of_row(static_cast<std::int64_t>(oy), body, done);
  }
};

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
    std::vector<float> gradient(pixels * channels), sum(image);
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

Shape avg_pool_shape(const Shape& x, const AvgPoolOptions& o) {
  check(x.rank() == 4, "average pooling: expected an N,H,W,C tensor, got ", x);
  if (o.output > 0) {
    check(x[1] > 0 && x[2] > 0, "average pooling: an empty image ", x);
    return {x[0], o.output, o.output, x[3]};
  }
  return pooled("average pooling", x, o.kernel, o.stride, o.padding);
}

Tensor avg_pool(const Tensor& x, const AvgPoolOptions& options) {
  Tensor y = like(x, avg_pool_shape(x.shape(), options), x.dtype());
  avg_pool(x, options, y);
  return y;
}

void avg_pool(const Tensor& x, const AvgPoolOptions& options, Tensor& out) {
  const Booked booked(Work::fused);
  check(x.dtype() == DType::f32 || x.dtype() == DType::u8 || x.dtype() == DType::s8,
        "average pooling: f32, u8 or s8, got ", x.dtype());
  const Shape shape = avg_pool_shape(x.shape(), options);
  expect_place("average pooling", out, shape, x.dtype());
  const std::int64_t channels = shape[3];
  const std::int64_t in_image = x.dim(1) * x.dim(2), out_image = shape[1] * shape[2];
  void* to = out.mutable_raw();
  const Averages averages(x.shape(), shape, options);
  parallel_for(shape[0] * shape[1], 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> sum(channels), pixel(channels);
    for (std::int64_t row = begin; row < end; ++row) {
      const std::int64_t n = row / shape[1];
      averages.for_each_of_row(
          row % shape[1],
          [&](std::int64_t, std::int64_t in) {
            load_block(x, (n * in_image + in) * channels, channels, pixel.data());
            add_to(sum.data(), pixel.data(), channels);
          },
          [&](std::int64_t to_pixel, float count) {
            if (x.dtype() == DType::f32) {
              divide(sum.data(), count, channels);
            } else {
              divide_and_round(sum.data(), count, channels);
            }
            store_block(to, out.dtype(), (n * out_image + to_pixel) * channels, channels, sum.data());
            std::ranges::fill(sum, 0.0f);
          });
    }
  });
}

Tensor avg_pool_backward(const Tensor& dy, const Shape& x, const AvgPoolOptions& options) {
  const Booked booked(Work::fused);
  const Shape y = avg_pool_shape(x, options);
  check(dy.shape() == y, "average pooling backward: gradient ", dy.shape(), " for an output of ", y);
  Tensor dx = Tensor::empty(x, dy.dtype());
  const std::int64_t channels = x[3];
  const std::int64_t in_image = x[1] * x[2], out_image = y[1] * y[2];
  void* to = dx.mutable_raw();
  const Averages averages(x, y, options);
  parallel_for(x[0], 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> gradient(out_image * channels), sum(in_image * channels);
    for (std::int64_t n = begin; n < end; ++n) {
      load_block(dy, n * out_image * channels, out_image * channels, gradient.data());
      const auto nothing = [](std::int64_t, std::int64_t) {};
      averages.for_each(nothing, [&](std::int64_t out, float count) {
        divide(&gradient[out * channels], count, channels);
      });
      std::ranges::fill(sum, 0.0f);
      averages.for_each(
          [&](std::int64_t out, std::int64_t in) {
            add_to(&sum[in * channels], &gradient[out * channels], channels);
          },
          [](std::int64_t, float) {});
      store_block(to, dx.dtype(), n * in_image * channels, in_image * channels, sum.data());
    }
  });
  return dx;
}

Shape subsample_and_pad_shape(const Shape& x, int stride, std::int64_t channels) {
  check(x.rank() == 4, "shortcut: expected an N,H,W,C tensor, got ", x);
  check(stride > 0 && channels >= x[3], "shortcut: ", x[3], " channels to ", channels, ", stride ", stride);
  return {x[0], (x[1] + stride - 1) / stride, (x[2] + stride - 1) / stride, channels};
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
