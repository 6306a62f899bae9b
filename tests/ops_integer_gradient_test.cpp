// Ops with 8-bit gradients. What they are made of: rounded_gradient_test.cpp, integer_gradient_test.cpp.
#include <cmath>

#include "core/kernels/learned_scale.h"
#include "core/kernels/rounded_gradient.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

namespace {

RoundingKeys keys_of(std::int64_t images) {
  RoundingKeys keys{.seed = 9, .layer = 4, .epoch = 2};
  for (std::int64_t i = 0; i < images; ++i) keys.samples.push_back(1000 - 3 * i);
  return keys;
}

constexpr FixedPoint input{.scale = 1.0f / 16, .bits = 4};
constexpr FixedPoint filter{.scale = 1.0f / 8, .bits = 4, .is_signed = true};

double cosine(const std::vector<double>& a, const std::vector<double>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) ab += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
  return ab / std::sqrt(aa * bb);
}

// The exact products of the rounded gradient, rounded to f32 once.
struct Expected {
  Tensor dx;
  std::vector<float> dw;
};
Expected products(const Tensor& dy, const Tensor& x, const Tensor& q, const ConvGeometry& geometry,
                  const RoundingKeys& keys) {
  const Tensor scaled = kernels::scaled_channels(dy, Tensor::full({dy.dim(3)}, q.fixed_point().scale));
  const auto rounded = kernels::rounded(scaled, keys, 0);
  const auto g = reference::elements<std::int64_t>(rounded.values);
  const auto xs = reference::elements<std::int64_t>(x), ws = reference::elements<std::int64_t>(q);
  std::vector<std::int64_t> dx(xs.size()), dw(ws.size());
  reference::for_each_tap(x.shape(), q.shape(), geometry, [&](auto yi, auto xi, auto wi) {
    dx[xi] += g[yi] * ws[wi];
    dw[wi] += g[yi] * xs[xi];
  });
  Expected e{Tensor::empty(x.shape()), {}};
  for (std::size_t i = 0; i < dx.size(); ++i)
    e.dx.mutable_data<float>()[i] = static_cast<float>(dx[i]) * rounded.scale;
  e.dx = kernels::convert(e.dx, DType::bf16);
  for (const std::int64_t sum : dw)
    e.dw.push_back(static_cast<float>(sum) * rounded.scale * (x.fixed_point().scale / q.fixed_point().scale));
  return e;
}

}  // namespace

TEST_CASE("8-bit gradients of an integer convolution are products of the rounded gradient", "[ops][isa]") {
  const Shape xs{3, 6, 5, 18}, ws{10, 18, 3, 3};
  for (const int stride : {1, 2}) {
    const ConvGeometry geometry{.stride = stride, .padding = 1};
    const Tensor x = reference::random_fixed_point(xs, 1, input),
                 q = reference::random_fixed_point(ws, 2, filter);
    const Tensor dy = reference::random(kernels::conv2d_shape(xs, ws, geometry), 3);
    const Expected expected = products(dy, x, q, geometry, keys_of(3));
    for (const Engine engine : {Engine::integer, Engine::simulated}) {
      const Var vx(x, true), vw(Tensor::zeros(ws), true);
      backward(conv2d_integer(vx, vw, q, geometry, engine, GradFormat::s8, keys_of(3)), dy);
      CHECK(reference::same_bytes(vx.grad(), expected.dx));
      CHECK(reference::elements<float>(vw.grad()) == expected.dw);
    }
    // The data alone.
    const Var vx(x, true), vw(Tensor::zeros(ws), true), wx(x, true), ww(Tensor::zeros(ws), true);
    backward(conv2d_integer(vx, vw, q, geometry, Engine::integer, GradFormat::s8_data, keys_of(3)), dy);
    backward(conv2d_integer(wx, ww, q, geometry, Engine::integer, GradFormat::f32), dy);
    CHECK(reference::same_bytes(vx.grad(), expected.dx));
    CHECK(reference::relative_error(vw.grad(), reference::numbers(ww.grad())) < tolerance(DType::bf16));
    CHECK_FALSE(reference::elements<float>(vw.grad()) == expected.dw);
  }
}

TEST_CASE("8-bit gradients of a classifier", "[ops]") {
  const Shape xs{4, 70}, ws{10, 70};
  const Tensor x = reference::random_fixed_point(xs, 1, {.scale = 0.5f, .bits = 8});
  const Tensor q = reference::random_fixed_point(ws, 2, {.scale = 0.25f, .bits = 8, .is_signed = true});
  const Tensor dy = reference::random({4, 10}, 3);
  const Var vx(x, true), vw(Tensor::zeros(ws), true), b(Tensor::zeros({10}), true);
  backward(linear_integer(vx, vw, q, b, Engine::integer, GradFormat::s8, keys_of(4)), dy);
  Tensor images = x.reshaped({4, 1, 1, 70}), taps = q.reshaped({10, 70, 1, 1});
  const Expected expected = products(dy.reshaped({4, 1, 1, 10}), images, taps, {}, keys_of(4));
  CHECK(reference::same_bytes(vx.grad().reshaped({4, 1, 1, 70}), expected.dx));
  CHECK(reference::elements<float>(vw.grad()) == expected.dw);
  for (std::int64_t c = 0; c < 10; ++c) {
    float sum = 0;
    for (std::int64_t n = 0; n < 4; ++n) sum += dy.data<float>()[n * 10 + c];
    CHECK(b.grad().data<float>()[c] == sum);
  }
}

namespace {

// A whole unit: its gradients, of x, w, gamma, beta and the residual.
std::vector<Tensor> unit_gradients(const GradFormat& format, const Shape& xs, const ConvGeometry& geometry,
                                   bool has_channel_scales, const RoundingKeys& keys) {
  const Shape ws{24, xs[3], 3, 3}, ys = kernels::conv2d_shape(xs, ws, geometry);
  const Var x(reference::random_fixed_point(xs, 1, input), true), w(Tensor::zeros(ws), true);
  const Var residual(reference::random_fixed_point(ys, 3, input), true);
  const Tensor q = reference::random_fixed_point(ws, 2, filter);
  const Tensor scales = has_channel_scales ? reference::random({24}, 8, 0.5, 2) : Tensor();
  const NormState norm = norm_state(Var(reference::random({24}, 4, 0.5, 1.5), true),
                                    Var(reference::random({24}, 5, -0.5, 0.5), true));
  const Var y = conv_norm_act_integer(x, w, kernels::PackedWeights(q, scales), norm, residual, geometry,
                                      Engine::integer, format,
                                      {.format = FixedPoint{.scale = 1.0f / 8, .bits = 4}}, nullptr, keys);
  backward(y, gradient(ys, 6, format.dtype()));
  return {x.grad(), w.grad(), norm.gamma.grad(), norm.beta.grad(), residual.grad()};
}

}  // namespace

TEST_CASE("8-bit gradients of a unit point where f32 gradients do", "[ops][isa]") {
  for (const bool has_channel_scales : {false, true}) {
    for (const int stride : {1, 2}) {
      for (const GradFormat& format : {GradFormat::s8, GradFormat::s8_data}) {
        INFO(format << ", stride " << stride << (has_channel_scales ? ", scales of channels" : ""));
        const Shape xs{21, 8, 9, 16};
        const ConvGeometry geometry{.stride = stride, .padding = 1};
        const auto f32 = unit_gradients(GradFormat::f32, xs, geometry, has_channel_scales, {});
        const auto s8 = unit_gradients(format, xs, geometry, has_channel_scales, keys_of(21));
        REQUIRE(s8.size() == f32.size());
        CHECK(s8[0].dtype() == DType::bf16);
        CHECK(s8[1].dtype() == DType::f32);
        for (std::size_t i = 0; i < s8.size(); ++i) {
          INFO("gradient " << i);
          const auto a = reference::numbers(s8[i]), b = reference::numbers(f32[i]);
          CHECK(cosine(a, b) > 0.999);
          double aa = 0, bb = 0;
          for (std::size_t k = 0; k < a.size(); ++k) aa += a[k] * a[k], bb += b[k] * b[k];
          CHECK(std::sqrt(aa / bb) == Approx(1).margin(0.01));
        }
      }
    }
  }
}

TEST_CASE("a unit adds its gradient to what its input has got already", "[ops][isa]") {
  const Shape xs{9, 8, 9, 16}, ws{24, 16, 3, 3};
  const Tensor image = reference::random_fixed_point(xs, 1, input);
  const Tensor q = reference::random_fixed_point(ws, 2, filter);
  const NormState norm = norm_state(Var(reference::random({24}, 4, 0.5, 1.5), true),
                                    Var(reference::random({24}, 5, -0.5, 0.5), true));
  for (const int stride : {1, 2}) {
    const ConvGeometry geometry{.stride = stride, .padding = 1};
    const Tensor dy = gradient(kernels::conv2d_shape(xs, ws, geometry), 6, DType::f32);
    std::vector formats = gradient_formats();
    formats.insert(formats.end(), {GradFormat::s8, GradFormat::s8_data});
    for (const GradFormat& format : formats) {
      INFO(format << ", stride " << stride);
      const Tensor other = gradient(xs, 7, format.dtype());
      // The gradient of the unit's input, which another op gives `other` before, if it is wanted.
      const void* place_of_other = nullptr;
      const auto gradient_of_input = [&](bool has_other) {
        const Var x(image, true), w(Tensor::zeros(ws), true);
        const Var y = conv_norm_act_integer(
            x, w, kernels::PackedWeights(q), norm, {}, geometry, Engine::integer, format,
            {.format = FixedPoint{.scale = 1.0f / 8, .bits = 4}}, nullptr, keys_of(xs[0]));
        const Var root = Var::record("both", y.value(), {y, x}, [&](const Tensor&) -> Grads {
          Tensor first = has_other ? other.clone() : Tensor();
          if (first) place_of_other = first.raw();
          return {kernels::convert(dy, format.dtype()), std::move(first)};
        });
        backward(root, Tensor::zeros(dy.shape()));
        if (has_other) CHECK(x.grad().raw() == place_of_other);
        return x.grad();
      };
      const Tensor alone = gradient_of_input(false), sum = gradient_of_input(true);
      CHECK(sum.dtype() == format.dtype());
      const double step = format.dtype() == DType::f32 ? 1e-6 : 0x1p-7;
      CHECK(reference::relative_error(reference::numbers(sum),
                                      reference::numbers(kernels::add(alone, other))) < step);
    }
  }
}

TEST_CASE("8-bit gradients have the same bits on any number of threads", "[ops]") {
  // Of many groups, and of fewer than threads.
  for (const Shape& xs : {Shape{67, 24, 24, 16}, Shape{9, 10, 10, 16}}) {
    set_num_threads(1);
    const auto one = unit_gradients(GradFormat::s8, xs, {.padding = 1}, false, keys_of(xs[0]));
    for (const int threads : {2, 3, 4}) {
      set_num_threads(threads);
      const auto several = unit_gradients(GradFormat::s8, xs, {.padding = 1}, false, keys_of(xs[0]));
      for (std::size_t i = 0; i < one.size(); ++i) CHECK(reference::same_bytes(several[i], one[i]));
    }
  }
  set_num_threads(0);
}

TEST_CASE("8-bit gradients want the samples of the batch", "[ops]") {
  CHECK_THROWS_WITH(unit_gradients(GradFormat::s8, {3, 6, 6, 16}, {.padding = 1}, false, keys_of(2)),
                    Catch::Contains("the pass names 2 samples"));
}

TEST_CASE("a filter too long for exact sums has its data gradient in floating point", "[ops][isa]") {
  const Shape xs{2, 6, 6, 1}, ws{4096, 1, 6, 6};  // 147,456 products in a sum, half of them of one sign
  const Tensor x = reference::random_fixed_point(xs, 1, input),
               q = reference::random_fixed_point(ws, 2, filter);
  const Tensor dy = reference::random(kernels::conv2d_shape(xs, ws, {}), 3);
  const auto gradients = [&](const GradFormat& format) {
    const Var vx(x, true), vw(Tensor::zeros(ws), true);
    backward(conv2d_integer(vx, vw, q, {}, Engine::integer, format, keys_of(2)), dy);
    return std::vector{reference::numbers(vx.grad()), reference::numbers(vw.grad())};
  };
  const auto s8 = gradients(GradFormat::s8), f32 = gradients(GradFormat::f32);
  CHECK(reference::relative_error(s8[0], f32[0]) < tolerance(DType::bf16));
  CHECK(cosine(s8[1], f32[1]) > 0.999);
}

TEST_CASE("convolutions without an 8-bit gradient fall back", "[ops][isa]") {
  // In groups of channels: the same as in floating point, whatever the keys.
  const Shape xs{2, 6, 6, 16}, ws{16, 8, 3, 3};
  const ConvGeometry geometry{.padding = 1, .groups = 2};
  const Tensor x = reference::random_fixed_point(xs, 1, input),
               q = reference::random_fixed_point(ws, 2, filter);
  const Tensor dy = reference::random(kernels::conv2d_shape(xs, ws, geometry), 3);
  const auto gradients = [&](const GradFormat& format) {
    const Var vx(x, true), vw(Tensor::zeros(ws), true);
    backward(conv2d_integer(vx, vw, q, geometry, Engine::integer, format), dy);
    return std::vector{reference::numbers(vx.grad()), reference::numbers(vw.grad())};
  };
  const auto s8 = gradients(GradFormat::s8), f32 = gradients(GradFormat::f32);
  for (int i : {0, 1}) CHECK(reference::relative_error(s8[i], f32[i]) < tolerance(DType::bf16));
}
