// What the tests of kernels and operations compare with: random tensors, and plain loops in double precision
// or in 64-bit integers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "core/kernels/conv.h"
#include "core/kernels/elementwise.h"
#include "core/rng.h"
#include "core/tensor.h"

namespace faq::reference {

/// f32, uniform in [low, high); `salt` makes each tensor of a test different.
inline Tensor random(const Shape& shape, std::uint64_t salt, double low = -1, double high = 1) {
  Random generator(1, RandomStream::test, salt);
  Tensor t = Tensor::empty(shape);
  for (float& x : t.mutable_span<float>()) x = static_cast<float>(generator.uniform(low, high));
  return t;
}

/// Integers of type T, uniform in [low, high].
template <class T>
Tensor random_integers(const Shape& shape, std::uint64_t salt, std::int64_t low, std::int64_t high) {
  Random generator(2, RandomStream::test, salt);
  Tensor t = Tensor::empty(shape, dtype_of<T>);
  for (T& x : t.mutable_span<T>()) {
    x = static_cast<T>(
        low + static_cast<std::int64_t>(generator.below(static_cast<std::uint32_t>(high - low + 1))));
  }
  return t;
}

/// Every integer of `format`, with its step.
inline Tensor random_fixed_point(const Shape& shape, std::uint64_t salt, const FixedPoint& format) {
  Tensor t = format.is_signed ? random_integers<std::int8_t>(shape, salt, format.min(), format.max())
                              : random_integers<std::uint8_t>(shape, salt, format.min(), format.max());
  t.set_fixed_point(format);
  return t;
}

/// The elements as T, integers not scaled.
template <class T>
std::vector<T> elements(const Tensor& t) {
  const auto copied = [](auto values) { return std::vector<T>(values.begin(), values.end()); };
  switch (t.dtype()) {
    case DType::f32:
      return copied(t.span<float>());
    case DType::bf16:
      return copied(kernels::convert(t, DType::f32).span<float>());
    case DType::s32:
      return copied(t.span<std::int32_t>());
    case DType::s16:
      return copied(t.span<std::int16_t>());
    case DType::s8:
      return copied(t.span<std::int8_t>());
    case DType::u8:
      return copied(t.span<std::uint8_t>());
  }
  return {};
}

/// The numbers a tensor stands for: integers times their step.
inline std::vector<double> numbers(const Tensor& t) {
  std::vector<double> values = elements<double>(t);
  if (t.is_fixed_point()) {
    for (double& v : values) v *= t.fixed_point().scale;
  }
  return values;
}

/// The largest |actual − expected| over the largest |expected|; infinite when a value is not finite or the
/// sizes differ.
inline double relative_error(const std::vector<double>& actual, const std::vector<double>& expected) {
  if (actual.size() != expected.size()) return INFINITY;
  double error = 0, scale = 0;
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double difference = std::abs(actual[i] - expected[i]);
    error = std::isfinite(difference) ? std::max(error, difference) : INFINITY;
    scale = std::max(scale, std::abs(expected[i]));
  }
  return error == 0 ? 0 : error / scale;
}
inline double relative_error(const Tensor& actual, const std::vector<double>& expected) {
  return relative_error(numbers(actual), expected);
}

inline bool same_bytes(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  const auto* left = static_cast<const std::byte*>(a.raw());
  const auto* right = static_cast<const std::byte*>(b.raw());
  return a.dtype() == b.dtype() && a.shape() == b.shape() && std::equal(left, left + a.bytes(), right);
}

/// Calls tap(i of y, i of x, i of w) for every product of a convolution. Forward adds x·w to y, the gradients
/// add y·w to x and x·y to w.
template <class Tap>
void for_each_tap(const Shape& x, const Shape& w, const ConvGeometry& o, Tap tap) {
  const Shape y = kernels::conv2d_shape(x, w, o);
  for (std::int64_t n = 0; n < y[0]; ++n)
    for (std::int64_t oy = 0; oy < y[1]; ++oy)
      for (std::int64_t ox = 0; ox < y[2]; ++ox)
        for (std::int64_t ky = 0; ky < w[2]; ++ky)
          for (std::int64_t kx = 0; kx < w[3]; ++kx) {
            const std::int64_t iy = oy * o.stride - o.padding.top + ky * o.dilation.height;
            const std::int64_t ix = ox * o.stride - o.padding.left + kx * o.dilation.width;
            if (iy < 0 || iy >= x[1] || ix < 0 || ix >= x[2]) continue;
            for (std::int64_t out = 0; out < y[3]; ++out) {
              const std::int64_t first = out / (y[3] / o.groups) * w[1];  // input channel of its group
              for (std::int64_t in = 0; in < w[1]; ++in)
                tap(((n * y[1] + oy) * y[2] + ox) * y[3] + out,
                    ((n * x[1] + iy) * x[2] + ix) * x[3] + first + in,
                    ((out * w[1] + in) * w[2] + ky) * w[3] + kx);
            }
          }
}

template <class T>
std::vector<T> conv2d(const std::vector<T>& x, const Shape& xs, const std::vector<T>& w, const Shape& ws,
                      const ConvGeometry& o) {
  std::vector<T> y(kernels::conv2d_shape(xs, ws, o).numel());
  for_each_tap(xs, ws, o, [&](auto yi, auto xi, auto wi) { y[yi] += x[xi] * w[wi]; });
  return y;
}

inline std::vector<double> conv2d_dx(const std::vector<double>& dy, const Shape& xs,
                                     const std::vector<double>& w, const Shape& ws, const ConvGeometry& o) {
  std::vector<double> dx(xs.numel());
  for_each_tap(xs, ws, o, [&](auto yi, auto xi, auto wi) { dx[xi] += dy[yi] * w[wi]; });
  return dx;
}

inline std::vector<double> conv2d_dw(const std::vector<double>& dy, const std::vector<double>& x,
                                     const Shape& xs, const Shape& ws, const ConvGeometry& o) {
  std::vector<double> dw(ws.numel());
  for_each_tap(xs, ws, o, [&](auto yi, auto xi, auto wi) { dw[wi] += dy[yi] * x[xi]; });
  return dw;
}

/// A convolution of a table of tests.
struct Convolution {
  Shape x;
  Shape w;
  ConvGeometry geometry;

  Shape y() const { return kernels::conv2d_shape(x, w, geometry); }
};
inline std::ostream& operator<<(std::ostream& out, const Convolution& c) {
  return out << "x " << c.x << ", w " << c.w << ", " << c.geometry;
}

}  // namespace faq::reference
