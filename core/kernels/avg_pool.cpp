#include "core/division.h"
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
      const std::int64_t begin = i * size / out, end = divided_up((i + 1) * size, out);
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

}  // namespace

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
    AlignedVector<float> sum(channels), pixel(channels);
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
    AlignedVector<float> gradient(out_image * channels), sum(in_image * channels);
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

}  // namespace faq::kernels
