#include "core/kernels/pool.h"

#include "core/kernels/concat.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::MaxPoolOptions;

namespace {

// Any of the element types pooling takes.
Tensor images(const Shape& shape, DType dtype) {
  if (dtype == DType::f32) return reference::random(shape, 1);
  return reference::random_fixed_point(shape, 2, {.scale = 0.25f, .is_signed = dtype == DType::s8});
}

double dot(const Tensor& a, const Tensor& b) {
  const std::vector<double> x = reference::numbers(a), y = reference::numbers(b);
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) sum += x[i] * y[i];
  return sum;
}

// The first largest element of each window, as an index into x.
std::vector<std::int64_t> winners(const std::vector<double>& x, const Shape& s, const MaxPoolOptions& o) {
  const Shape y = kernels::max_pool_shape(s, o);
  std::vector<std::int64_t> found;
  for (std::int64_t n = 0; n < y[0]; ++n)
    for (std::int64_t oy = 0; oy < y[1]; ++oy)
      for (std::int64_t ox = 0; ox < y[2]; ++ox)
        for (std::int64_t c = 0; c < y[3]; ++c) {
          std::int64_t best = -1;
          for (std::int64_t ky = 0; ky < o.kernel; ++ky)
            for (std::int64_t kx = 0; kx < o.kernel; ++kx) {
              const std::int64_t iy = oy * o.stride - o.padding + ky, ix = ox * o.stride - o.padding + kx;
              if (iy < 0 || iy >= s[1] || ix < 0 || ix >= s[2]) continue;
              const std::int64_t i = ((n * s[1] + iy) * s[2] + ix) * s[3] + c;
              if (best < 0 || x[i] > x[best]) best = i;
            }
          found.push_back(best);
        }
  return found;
}

struct PoolCase {
  Shape x;
  MaxPoolOptions options;
};
const PoolCase pool_cases[] = {{{2, 8, 8, 16}, {}},
                               {{1, 7, 9, 3}, {}},
                               {{2, 6, 7, 5}, {.kernel = 2, .stride = 2, .padding = 0}},
                               {{1, 5, 5, 2}, {.kernel = 3, .stride = 1, .padding = 1}},
                               {{1, 4, 4, 1}, {.kernel = 2, .stride = 3, .padding = 1}},
                               {{1, 5, 6, 4}, {.kernel = 5, .stride = 2, .padding = 2}},
                               {{1, 3, 3, 2}, {.kernel = 1, .stride = 2, .padding = 0}},
                               {{1, 1, 1, 2}, {.kernel = 3, .stride = 2, .padding = 1}}};

}  // namespace

TEST_CASE("global sum pooling", "[pool]") {
  for (const Shape& shape : {Shape{1, 1, 1, 1}, {2, 7, 5, 3}, {3, 8, 8, 64}}) {
    for (DType dtype : {DType::f32, DType::u8, DType::s8}) {
      INFO(shape << " " << dtype);
      const Tensor x = images(shape, dtype);
      const Tensor y = kernels::global_sum_pool(x);
      CHECK(y.shape() == Shape{shape[0], 1, 1, shape[3]});
      const std::vector<double> values = reference::numbers(x);
      std::vector<double> expected(static_cast<std::size_t>(shape[0] * shape[3]));
      for (std::int64_t i = 0; i < x.numel(); ++i) {
        expected[i / (shape[1] * shape[2] * shape[3]) * shape[3] + i % shape[3]] += values[i];
      }
      if (dtype == DType::f32) {
        CHECK(reference::relative_error(y, expected) < 1e-6);
      } else {
        CHECK(y.dtype() == DType::s32);
        CHECK(y.fixed_point().scale == 0.25f);
        CHECK(reference::numbers(y) == expected);
      }
    }
  }
  CHECK_THROWS_AS(kernels::global_sum_pool(Tensor::zeros({2, 3})), Error);
  CHECK_THROWS_AS(kernels::global_sum_pool(Tensor::zeros({1, 2, 2, 3}, DType::s32)), Error);
}

TEST_CASE("global sum pooling spreads its gradient", "[pool]") {
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Tensor dy = kernels::convert(reference::random({2, 1, 1, 5}, 1), dtype);
    const Tensor dx = kernels::global_sum_pool_backward(dy, {2, 3, 4, 5}, 0.25f);
    CHECK(dx.dtype() == dtype);
    const std::vector<double> from = reference::numbers(dy);
    std::vector<double> expected;
    for (int i = 0; i < 120; ++i) expected.push_back(from[i / 60 * 5 + i % 5] / 4);
    CHECK(reference::numbers(dx) == expected);
  }
}

TEST_CASE("max pooling and its gradient", "[pool]") {
  for (const PoolCase& c : pool_cases) {
    for (DType dtype : {DType::f32, DType::u8, DType::s8}) {
      INFO(c.x << " " << dtype << ", kernel " << c.options.kernel << ", stride " << c.options.stride
               << ", padding " << c.options.padding);
      const Tensor x = images(c.x, dtype);
      const std::vector<double> values = reference::numbers(x);
      const std::vector<std::int64_t> best = winners(values, c.x, c.options);
      const Tensor y = kernels::max_pool(x, c.options);
      CHECK(y.dtype() == dtype);
      CHECK(y.is_fixed_point() == x.is_fixed_point());
      std::vector<double> expected;
      for (std::int64_t i : best) expected.push_back(values[i]);
      CHECK(reference::numbers(y) == expected);
      for (DType grad_dtype : {DType::f32, DType::bf16}) {
        const Tensor dy = kernels::convert(reference::random(y.shape(), 3), grad_dtype);
        const std::vector<double> gradient = reference::numbers(dy);
        std::vector<double> dx(values.size());
        for (std::size_t i = 0; i < best.size(); ++i) dx[best[i]] += gradient[i];
        const Tensor result = kernels::max_pool_backward(dy, x, c.options);
        CHECK(result.dtype() == grad_dtype);
        CHECK(reference::relative_error(result, dx) <= (grad_dtype == DType::bf16 ? 1.0 / 256 : 1e-6));
      }
    }
  }
}

TEST_CASE("of equal elements the first gets the gradient", "[pool]") {
  const Tensor x = Tensor::full({1, 2, 2, 1}, 5);
  const Tensor dx =
      kernels::max_pool_backward(Tensor::full({1, 1, 1, 1}, 3), x, {.kernel = 2, .stride = 2, .padding = 0});
  CHECK(reference::numbers(dx) == std::vector<double>{3, 0, 0, 0});
}

TEST_CASE("negative images keep their maxima: padding is not zero", "[pool]") {
  CHECK(reference::numbers(kernels::max_pool(Tensor::full({1, 2, 2, 1}, -5), {})) == std::vector<double>{-5});
}

TEST_CASE("max pooling refuses what does not fit", "[pool]") {
  CHECK(kernels::max_pool_shape({1, 112, 112, 64}, {}) == Shape{1, 56, 56, 64});
  CHECK_THROWS_WITH(kernels::max_pool_shape({1, 2, 2}, {}), Catch::Contains("N,H,W,C"));
  CHECK_THROWS_WITH(kernels::max_pool_shape({1, 2, 2, 1}, {.kernel = 5, .stride = 1, .padding = 0}),
                    Catch::Contains("does not fit"));
  for (const MaxPoolOptions& bad : {MaxPoolOptions{.kernel = 0},
                                    {.stride = 0},
                                    {.padding = -1},
                                    {.kernel = 2, .stride = 1, .padding = 2}}) {
    CHECK_THROWS_AS(kernels::max_pool_shape({1, 8, 8, 1}, bad), Error);
  }
  CHECK_THROWS_AS(kernels::max_pool(Tensor::zeros({1, 4, 4, 1}, DType::s32), {}), Error);
  CHECK_THROWS_WITH(kernels::max_pool(Tensor::zeros({1, 0, 4, 1}), {.kernel = 2, .stride = 1, .padding = 1}),
                    Catch::Contains("an empty image"));
  Tensor small = Tensor::zeros({1, 1, 2, 1});
  CHECK_THROWS_WITH(kernels::max_pool(Tensor::zeros({1, 4, 4, 1}), {}, small), Catch::Contains("into f32"));
  CHECK_THROWS_AS(kernels::max_pool_backward(Tensor::zeros({1, 3, 3, 1}), Tensor::zeros({1, 4, 4, 1}), {}),
                  Error);
}

TEST_CASE("shortcut A takes every stride-th pixel and pads channels on both sides", "[pool]") {
  struct Row {
    Shape x;
    int stride;
    std::int64_t channels;
    Shape y;
    std::int64_t before;
  };
  const Row rows[] = {{{2, 8, 8, 16}, 2, 32, {2, 4, 4, 32}, 8},
                      {{1, 7, 5, 3}, 2, 8, {1, 4, 3, 8}, 2},
                      {{1, 4, 4, 2}, 1, 5, {1, 4, 4, 5}, 1},
                      {{1, 7, 7, 4}, 3, 4, {1, 3, 3, 4}, 0}};
  for (const Row& row : rows) {
    for (DType dtype : {DType::f32, DType::u8, DType::s8, DType::bf16}) {
      INFO(row.x << " to " << row.y << " " << dtype);
      const Tensor x =
          dtype == DType::bf16 ? kernels::convert(images(row.x, DType::f32), dtype) : images(row.x, dtype);
      const Tensor y = kernels::subsample_and_pad(x, row.stride, row.channels);
      CHECK(y.shape() == row.y);
      CHECK(y.dtype() == dtype);
      CHECK(y.is_fixed_point() == x.is_fixed_point());
      const std::vector<double> in = reference::numbers(x), out = reference::numbers(y);
      int wrong = 0;
      for (std::int64_t i = 0; i < y.numel(); ++i) {
        const std::int64_t c = i % row.channels - row.before, ox = i / row.channels % row.y[2],
                           oy = i / row.channels / row.y[2] % row.y[1];
        const std::int64_t n = i / row.channels / row.y[2] / row.y[1];
        const bool padding = c < 0 || c >= row.x[3];
        wrong +=
            out[i] !=
            (padding ? 0
                     : in[((n * row.x[1] + oy * row.stride) * row.x[2] + ox * row.stride) * row.x[3] + c]);
      }
      CHECK(wrong == 0);
    }
    // The gradient is the adjoint: ⟨dy, f(x)⟩ = ⟨f*(dy), x⟩.
    for (DType dtype : {DType::f32, DType::bf16}) {
      const Tensor x = reference::random(row.x, 4);
      const Tensor dy = kernels::convert(reference::random(row.y, 5), dtype);
      const Tensor dx = kernels::subsample_and_pad_backward(dy, row.x, row.stride);
      CHECK(dx.dtype() == dtype);
      CHECK(dx.shape() == row.x);
      CHECK(dot(dy, kernels::subsample_and_pad(x, row.stride, row.channels)) ==
            Approx(dot(dx, x)).epsilon(1e-9));
    }
  }
  CHECK_THROWS_AS(kernels::subsample_and_pad(Tensor::zeros({1, 2, 2, 4}), 1, 3), Error);
  CHECK_THROWS_AS(kernels::subsample_and_pad(Tensor::zeros({1, 2, 2, 4}), 0, 4), Error);
  CHECK_THROWS_AS(kernels::subsample_and_pad(Tensor::zeros({2, 2}), 1, 4), Error);
}

TEST_CASE("average pooling", "[pool]") {
  using kernels::AvgPoolOptions;
  struct Row {
    Shape x;
    AvgPoolOptions options;
    Shape y;
  };
  const Row rows[] = {{{2, 8, 8, 16}, {}, {2, 4, 4, 16}},
                      {{1, 7, 9, 3}, {}, {1, 3, 4, 3}},
                      {{2, 5, 6, 20}, {.kernel = 3, .stride = 1, .padding = 1}, {2, 5, 6, 20}},
                      {{1, 17, 17, 5}, {.kernel = 5, .stride = 3}, {1, 5, 5, 5}},
                      {{1, 4, 4, 1}, {.kernel = 4, .stride = 1, .padding = 2}, {1, 5, 5, 1}},
                      {{3, 7, 7, 4}, {.output = 7}, {3, 7, 7, 4}},
                      {{1, 1, 1, 6}, {.output = 7}, {1, 7, 7, 6}},
                      {{1, 8, 13, 2}, {.output = 6}, {1, 6, 6, 2}},
                      {{2, 5, 4, 3}, {.output = 1}, {2, 1, 1, 3}}};
  for (const Row& row : rows) {
    INFO(row.x << " to " << row.y);
    const AvgPoolOptions& o = row.options;
    CHECK(kernels::avg_pool_shape(row.x, o) == row.y);
    for (const DType dtype : {DType::f32, DType::u8, DType::s8}) {
      INFO(dtype);
      const Tensor x = images(row.x, dtype), y = kernels::avg_pool(x, o);
      CHECK(y.dtype() == dtype);
      REQUIRE(y.shape() == row.y);
      if (dtype != DType::f32) CHECK(y.fixed_point() == x.fixed_point());
      const std::vector<double> in = reference::elements<double>(x), out = reference::elements<double>(y);
      std::vector<double> spread(in.size());  // of a gradient of ones to ny
      int wrong = 0;
      std::size_t i = 0;
      for (std::int64_t n = 0; n < row.y[0]; ++n)
        for (std::int64_t oy = 0; oy < row.y[1]; ++oy)
          for (std::int64_t ox = 0; ox < row.y[2]; ++ox)
            for (std::int64_t c = 0; c < row.y[3]; ++c, ++i) {
              const bool adaptive = o.output > 0;
              const std::int64_t top = adaptive ? oy * row.x[1] / o.output : oy * o.stride - o.padding;
              const std::int64_t bottom =
                  adaptive ? ((oy + 1) * row.x[1] + o.output - 1) / o.output : top + o.kernel;
              const std::int64_t left = adaptive ? ox * row.x[2] / o.output : ox * o.stride - o.padding;
              const std::int64_t right =
                  adaptive ? ((ox + 1) * row.x[2] + o.output - 1) / o.output : left + o.kernel;
              const auto count = static_cast<double>((bottom - top) * (right - left));
              double sum = 0;
              for (std::int64_t iy = std::max<std::int64_t>(top, 0); iy < std::min(bottom, row.x[1]); ++iy)
                for (std::int64_t ix = std::max<std::int64_t>(left, 0); ix < std::min(right, row.x[2]);
                     ++ix) {
                  const std::int64_t at = ((n * row.x[1] + iy) * row.x[2] + ix) * row.x[3] + c;
                  sum += in[at];
                  spread[at] += static_cast<double>(i % 7) / count;
                }
              wrong += dtype == DType::f32 ? std::abs(out[i] - sum / count) > 1e-6
                                           : out[i] != std::nearbyint(sum / count);
            }
      CHECK(wrong == 0);
      Tensor dy = Tensor::empty(row.y);
      for (std::int64_t k = 0; k < dy.numel(); ++k) dy.mutable_data<float>()[k] = static_cast<float>(k % 7);
      CHECK(reference::relative_error(kernels::avg_pool_backward(dy, row.x, o), spread) < 1e-6);
      const Tensor half = kernels::avg_pool_backward(kernels::convert(dy, DType::bf16), row.x, o);
      CHECK(half.dtype() == DType::bf16);
      CHECK(reference::relative_error(half, spread) < 1.0 / 256);
    }
  }
  CHECK_THROWS_AS(kernels::avg_pool(Tensor::zeros({1, 2, 2, 1}), {.kernel = 3}), Error);
  CHECK_THROWS_AS(kernels::avg_pool(Tensor::zeros({1, 2, 2, 1}), {.kernel = 2, .stride = 0}), Error);
  CHECK_THROWS_AS(kernels::avg_pool(Tensor::zeros({1, 2, 2, 1}), {.kernel = 2, .stride = 1, .padding = 2}),
                  Error);
  CHECK_THROWS_AS(kernels::avg_pool(Tensor::zeros({1, 2, 2, 1}, DType::s32), {}), Error);
  CHECK_THROWS_AS(kernels::avg_pool_backward(Tensor::zeros({1, 2, 2, 1}), {1, 2, 2, 1}, {}), Error);
}

TEST_CASE("concatenation of channels", "[pool]") {
  for (const DType dtype : {DType::f32, DType::u8, DType::s8}) {
    INFO(dtype);
    const std::vector<Tensor> parts{images({2, 3, 5, 4}, dtype), images({2, 3, 5, 1}, dtype),
                                    images({2, 3, 5, 7}, dtype)};
    const Tensor y = kernels::concat_channels(parts);
    CHECK(y.dtype() == dtype);
    CHECK(y.shape() == Shape{2, 3, 5, 12});
    const std::vector<double> out = reference::numbers(y);
    std::int64_t first = 0;
    for (const Tensor& part : parts) {
      const std::vector<double> in = reference::numbers(part);
      int wrong = 0;
      for (std::int64_t i = 0; i < part.numel(); ++i)
        wrong += in[i] != out[i / part.dim(3) * 12 + first + i % part.dim(3)];
      CHECK(wrong == 0);
      CHECK(reference::same_bytes(kernels::take_channels(y, first, part.dim(3)), part));
      first += part.dim(3);
    }
  }
  const Tensor x = images({1, 2, 2, 3}, DType::u8);
  Tensor finer = x.clone();
  finer.set_fixed_point({.scale = 0.125f});
  CHECK_THROWS_WITH(kernels::concat_channels(std::vector{x, finer}), Catch::Contains("not tied"));
  CHECK_THROWS_AS(kernels::concat_channels(std::vector{x, images({1, 2, 2, 3}, DType::s8)}), Error);
  CHECK_THROWS_AS(kernels::concat_channels(std::vector{x, images({1, 2, 3, 3}, DType::u8)}), Error);
  CHECK_THROWS_AS(kernels::concat_channels({}), Error);
  CHECK_THROWS_AS(kernels::take_channels(x, 2, 2), Error);
}
