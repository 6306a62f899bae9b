// Learned scales (LSQ): kernels and ops against the formulas of arXiv 1902.08153, as plain loops in double.
#include "core/kernels/learned_scale.h"

#include "core/kernels/norm.h"
#include "core/kernels/unit.h"
#include "core/kernels/weight_gradient.h"
#include "tests/catch.h"
#include "tests/ops_common.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

struct Formula {
  double q, dx, dscale;
};

// Of one value x: q = clamp(round(x/s)), and what it adds to the gradients where dy is that of q·s.
Formula formula(double x, double scale, double dy, const FixedPoint& format) {
  const double t = x / scale;
  const double q = std::clamp(std::nearbyint(t), double(format.min()), double(format.max()));
  const bool inside = t >= format.min() && t <= format.max();
  return {q, inside ? dy : 0, dy * (inside ? q - t : q)};
}

// The largest |Σ| that the terms of a sum could have: what an error is compared with.
bool is_sum(double found, double expected, double magnitudes, double tolerance = 1e-6) {
  return std::abs(found - expected) <= tolerance * magnitudes + 1e-12;
}

std::vector<FixedPoint> all_formats() {
  std::vector<FixedPoint> formats;
  for (int bits = 2; bits <= 8; ++bits)
    for (const bool is_signed : {false, true}) formats.push_back({.bits = bits, .is_signed = is_signed});
  return formats;
}

// Values of which some are clipped at both ends, none at a tie or an end of the range in float.
Tensor spread_over(const FixedPoint& format, const Shape& shape, std::uint64_t salt, double scale) {
  const double range = 2 * format.max() * scale;
  return reference::random(shape, salt, -range, range);
}

}  // namespace

TEST_CASE("rounding with learned scales and its gradients", "[learned_scale]") {
  std::uint64_t salt = 1;
  for (const FixedPoint& format : all_formats()) {
    for (const Shape& shape : {Shape{5, 3, 3, 3}, Shape{7, 130}, Shape{33, 40, 1, 1}, Shape{2, 1500}}) {
      for (const bool by_row : {false, true}) {
        for (const DType dtype : {DType::f32, DType::bf16}) {
          INFO(format << " " << shape << " " << (by_row ? "a scale for each row" : "one scale") << " "
                      << dtype);
          const Tensor scales = reference::random({by_row ? shape[0] : 1}, ++salt, 0.03, 0.1);
          const Tensor x = spread_over(format, shape, ++salt, 0.1);
          const Tensor dy = gradient(shape, ++salt, dtype);
          const auto [dx, dscales] = kernels::rounding_gradients(dy, x, scales, format);
          const std::vector<double> xs = reference::numbers(x), dys = reference::numbers(dy);
          const std::vector<double> found = reference::numbers(dx);
          const std::size_t length = xs.size() / static_cast<std::size_t>(scales.numel());
          std::vector<double> expected(static_cast<std::size_t>(scales.numel())), magnitudes = expected;
          int wrong = 0, outside = 0;
          std::vector<double> q;
          for (std::size_t i = 0; i < xs.size(); ++i) {
            const float scale = scales.data<float>()[i / length];
            const Formula f = formula(xs[i], scale, dys[i], format);
            q.push_back(f.q);
            wrong += found[i] != f.dx;
            outside += f.dx == 0;
            expected[i / length] += f.dscale;
            magnitudes[i / length] += std::abs(f.dscale);
          }
          CHECK(wrong == 0);
          CHECK(outside > 0);
          for (std::size_t i = 0; i < expected.size(); ++i)
            CHECK(is_sum(dscales.data<float>()[i], expected[i], magnitudes[i], 1e-5));
          if (!format.is_signed) continue;
          const Tensor rounded = kernels::quantize_rows(x, scales, format);
          CHECK(reference::elements<double>(rounded) == q);
          CHECK(rounded.fixed_point().scale == (scales.numel() == 1 ? scales.item() : 1.0f));
        }
      }
    }
  }
}

TEST_CASE("the factor of a scale's gradient counts values and levels", "[learned_scale]") {
  CHECK(kernels::scale_gradient_factor(100, {.bits = 4}) == Approx(1 / std::sqrt(1500.0)));
  CHECK(kernels::scale_gradient_factor(100, {.bits = 2, .is_signed = true}) == Approx(0.1));
}

TEST_CASE("a step halves or doubles a scale at most", "[learned_scale]") {
  const Tensor before = Tensor::from({5}, {1, 1, 1, 1, 0x1p-120f});
  Tensor scales = Tensor::from({5}, {-3, 0.4f, 0.9f, 7, -1});
  kernels::limit_step(scales, before, 0x1p-120f);
  CHECK(reference::numbers(scales) == std::vector<double>{0.5, 0.5, 0.9f, 2, 0x1p-120});
}

TEST_CASE("the scale of a unit's activations gets its gradient", "[learned_scale][norm]") {
  struct Row {
    const char* what;
    Activation activation;
    bool with_residual, integers, scales_of_x;
  };
  const Row rows[] = {{"relu", Activation::relu, false, false, false},
                      {"relu of accumulators, with a residual", Activation::relu, true, true, false},
                      {"a scale for each channel", Activation::relu, true, true, true},
                      {"no activation", Activation::identity, false, true, false},
                      {"clipped below the range", {.low = 0, .high = 0.5f}, false, false, false}};
  std::uint64_t salt = 500;
  for (const Row& row : rows) {
    for (const FixedPoint& bits : all_formats()) {
      for (const Shape& shape : {Shape{2, 3, 5, 3}, Shape{1, 17, 16, 64}, Shape{2, 5, 5, 1000}}) {
        FixedPoint format = bits;
        format.scale = static_cast<float>(0.9 / format.max() * (format.bits == 2 ? 0.8 : 1));
        INFO(row.what << " " << format << " " << shape);
        const std::int64_t channels = shape[3];
        Tensor x = reference::random(shape, ++salt);
        if (row.integers) {
          x = reference::random_integers<std::int32_t>(shape, ++salt, -1000, 1000);
          x.set_fixed_point({.scale = 0.0013f, .bits = 32, .is_signed = true});
        }
        const Tensor residual =
            row.with_residual ? reference::random_fixed_point(shape, ++salt, {.scale = 0.003f}) : Tensor();
        kernels::NormActParams params{reference::random({channels}, ++salt, 0.5, 1.5),
                                      reference::random({channels}, ++salt, -0.5, 0.5), residual,
                                      row.activation, format};
        if (row.scales_of_x) params.x_scales = reference::random({channels}, ++salt, 0.0005, 0.002);
        const kernels::ChannelStatistics statistics{reference::random({channels}, ++salt),
                                                    reference::random({channels}, ++salt, 0.5, 1.5)};
        const Tensor gamma = reference::random({channels}, ++salt, 0.5, 1.5);
        const Tensor dy = gradient(shape, ++salt, DType::f32);
        const auto backward = [&](bool with_dscale) {
          return kernels::NormActBackward(dy, x, params, statistics, gamma, 1e-5f,
                                          {.with_dscale = with_dscale});
        };
        const kernels::NormActBackward pass = backward(true);
        const std::vector<double> xs = reference::elements<double>(x), dys = reference::numbers(dy);
        const std::vector<double> added = residual ? reference::numbers(residual) : std::vector<double>();
        double expected = 0, magnitudes = 0;
        for (std::size_t i = 0; i < xs.size(); ++i) {
          const auto c = static_cast<std::int64_t>(i) % channels;
          const double x_scale = row.scales_of_x ? params.x_scales.data<float>()[c]
                                 : row.integers  ? x.fixed_point().scale
                                                 : 1.0;
          double z = xs[i] * x_scale * params.scale.data<float>()[c] + params.shift.data<float>()[c];
          if (residual) z += added[i];
          const double u = std::clamp<double>(z, row.activation.low, row.activation.high);
          expected += formula(u, format.scale, dys[i], format).dscale;
          magnitudes += std::abs(formula(u, format.scale, dys[i], format).dscale);
        }
        CHECK(magnitudes > 0);
        // Where f32 rounds a value to the other side of a tie, its term is another one.
        CHECK(std::abs(pass.dscale() - expected) <= 1e-5 * magnitudes + 2e-3);
        // The other gradients are those of a constant scale, bit for bit.
        const kernels::NormActBackward constant = backward(false);
        CHECK(reference::same_bytes(pass.dgamma(), constant.dgamma()));
        CHECK(reference::same_bytes(pass.dbeta(), constant.dbeta()));
        Tensor dx = Tensor::empty(shape), other = Tensor::empty(shape), none;
        pass.apply(0, shape[0], dx, none);
        constant.apply(0, shape[0], other, none);
        CHECK(reference::same_bytes(dx, other));
      }
    }
  }
}

TEST_CASE("ops with learned scales hand on their gradients", "[learned_scale][ops]") {
  const FixedPoint format{.scale = 0.21f, .bits = 3, .is_signed = true};
  SECTION("weights") {
    for (const std::int64_t count : {1, 4}) {
      const Var w(reference::random({4, 6, 3, 3}, 1), true);
      const Var scales(reference::random({count}, 2, 0.1, 0.3), true);
      const Tensor dy = gradient(w.shape(), 3, DType::f32);
      const Var rounded = learned_rounding(w, scales, format);
      CHECK(reference::same_bytes(rounded.value(), w.value()));
      backward(rounded, dy);
      const auto [dw, dscales] = kernels::rounding_gradients(dy, w.value(), scales.value(), format);
      CHECK(reference::same_bytes(w.grad(), dw));
      const double factor = 1 / std::sqrt(216.0 / static_cast<double>(count) * 3);
      for (std::int64_t i = 0; i < count; ++i)
        CHECK(scales.grad().data<float>()[i] == Approx(factor * dscales.data<float>()[i]).epsilon(1e-6));
    }
  }
  SECTION("activations") {
    const Var x(reference::random({5, 40}, 4), true), scale(Tensor::full({1}, format.scale), true);
    const Tensor dy = gradient(x.shape(), 5, DType::f32);
    const Var y = quantize(x, format, scale);
    CHECK(reference::same_bytes(y.value(), kernels::quantize(x.value(), format)));
    backward(y, dy);
    const auto [dx, dscale] = kernels::rounding_gradients(dy, x.value(), scale.value(), format);
    CHECK(reference::same_bytes(x.grad(), dx));
    CHECK(scale.grad().item() == Approx(dscale.item() / std::sqrt(40.0 * 3)).epsilon(1e-6));
  }
  SECTION("parameters without a part") {
    const Var x(reference::random({5, 4}, 6), true), idle(Tensor::full({3}, 1), true);
    const Var pair[] = {Var(), idle};
    const Tensor dy = gradient(x.shape(), 7, DType::f32);
    backward(with_idle(x, pair), dy);
    CHECK(reference::same_bytes(x.grad(), dy));
    CHECK(reference::numbers(idle.grad()) == std::vector<double>(3));
    CHECK(with_idle(x, std::span(pair, 1)).same_node(x));
  }
}

TEST_CASE("a unit whose weights have a scale for each channel, against double", "[learned_scale][ops][isa]") {
  const ConvGeometry options{.padding = 1};
  const Shape xs{2, 6, 5, 8}, ws{4, 8, 3, 3}, ys{2, 6, 5, 4};
  for (const bool by_channel : {false, true}) {
    for (const bool batch_statistics : {true, false}) {
      for (const GradFormat& grads : gradient_formats()) {
        INFO("gradient " << grads << (by_channel ? ", channels" : ", layer")
                         << (batch_statistics ? "" : ", running statistics"));
        const FixedPoint weight_format{.bits = 4, .is_signed = true};
        const FixedPoint format{.scale = 0.13f, .bits = 4};
        const Var x(reference::random_fixed_point(xs, 1, {.scale = 0.017f}), true);
        const Var w(reference::random(ws, 2), true);
        const Var w_scales(reference::random({by_channel ? 4 : 1}, 9, 0.08, 0.14), true);
        const Var y_scale(Tensor::full({1}, format.scale), true);
        const Tensor q = kernels::quantize_rows(w.value(), w_scales.value(), weight_format);
        NormState norm{Var(reference::random({4}, 4, 0.5, 1.5), true),
                       Var(reference::random({4}, 5, -0.5, 0.5), true), reference::random({4}, 6),
                       reference::random({4}, 7, 2, 4)};
        const kernels::PackedWeights packed(q, by_channel ? w_scales.value() : Tensor());
        LearnedStatistics learned;
        const Var y = conv_norm_act_integer(
            x, learned_rounding(w, w_scales, weight_format), packed, norm, {}, options, Engine::integer,
            grads, {.format = format, .batch_statistics = batch_statistics, .scale = y_scale}, &learned);

        const std::vector<double> xd = reference::numbers(x.value());
        std::vector<double> wd = reference::elements<double>(q);
        const auto scale_of = [&](std::size_t i) {
          return static_cast<double>(w_scales.value().data<float>()[by_channel ? i / 72 : 0]);
        };
        for (std::size_t i = 0; i < wd.size(); ++i) wd[i] *= scale_of(i);
        CHECK(reference::relative_error(packed.as(DType::f32).values(), wd) < 1e-6);
        const std::vector<double> conv = reference::conv2d(xd, xs, wd, ws, options);
        const auto n = static_cast<double>(conv.size() / 4);
        std::vector<double> mean(4), sigma(4), xhat(conv.size());
        for (std::size_t i = 0; i < conv.size(); ++i) mean[i % 4] += conv[i] / n;
        for (std::size_t i = 0; i < conv.size(); ++i) sigma[i % 4] += std::pow(conv[i] - mean[i % 4], 2) / n;
        if (batch_statistics) {
          CHECK(reference::relative_error(learned.mean, mean) < 1e-5);
          CHECK(reference::relative_error(learned.variance, sigma) < 1e-5);
        } else {
          mean = reference::numbers(norm.running_mean);
          sigma = reference::numbers(norm.running_variance);
        }
        for (double& s : sigma) s = std::sqrt(s + 1e-5);
        const Tensor dy = gradient(ys, 8, grads.dtype());
        std::vector<double> dz = reference::numbers(dy);
        double dscale = 0;
        for (std::size_t i = 0; i < conv.size(); ++i) {
          const std::size_t c = i % 4;
          xhat[i] = (conv[i] - mean[c]) / sigma[c];
          const double z = norm.gamma.value().data<float>()[c] * xhat[i] + norm.beta.value().data<float>()[c];
          REQUIRE(std::abs(z) > 1e-5);
          REQUIRE(std::abs(z - format.max() * format.scale) > 1e-5);
          const Formula f = formula(std::max(z, 0.0), format.scale, dz[i], format);
          dscale += f.dscale;
          dz[i] = z > 0 ? f.dx : 0;
          CHECK(std::abs(y.value().data<std::uint8_t>()[i] - f.q) <=
                (std::abs(std::remainder(z / format.scale - 0.5, 1.0)) < 1e-4));
        }
        std::vector<double> sum(4), product(4), dconv(conv.size());
        for (std::size_t i = 0; i < conv.size(); ++i) sum[i % 4] += dz[i], product[i % 4] += dz[i] * xhat[i];
        for (std::size_t i = 0; i < conv.size(); ++i) {
          const std::size_t c = i % 4;
          const double through = batch_statistics ? sum[c] / n + xhat[i] * product[c] / n : 0;
          dconv[i] = norm.gamma.value().data<float>()[c] / sigma[c] * (dz[i] - through);
        }
        backward(y, dy);
        const std::vector<double> dw = reference::conv2d_dw(dconv, xd, xs, ws, options);
        std::vector<double> dw_inside = dw, dscales(static_cast<std::size_t>(w_scales.value().numel()));
        const std::vector<double> masters = reference::numbers(w.value());
        for (std::size_t i = 0; i < dw.size(); ++i) {
          const Formula f = formula(masters[i], scale_of(i), dw[i], weight_format);
          dw_inside[i] = f.dx;
          dscales[by_channel ? i / 72 : 0] += f.dscale / std::sqrt((by_channel ? 72 : 288) * 7.0);
        }
        CHECK(reference::relative_error(norm.gamma.grad(), product) < 1e-5);
        CHECK(reference::relative_error(norm.beta.grad(), sum) < 1e-5);
        CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dconv, xs, wd, ws, options)) <
              tolerance(grads.dtype()));
        CHECK(reference::relative_error(w.grad(), dw_inside) < tolerance(grads.dtype()));
        CHECK(reference::relative_error(w_scales.grad(), dscales) < 2 * tolerance(grads.dtype()));
        CHECK(y_scale.grad().item() == Approx(dscale / std::sqrt(120 * 15.0)).epsilon(1e-3));
      }
    }
  }
}

TEST_CASE("gradients in bf16 meet the integers, whatever their scale", "[learned_scale][ops]") {
  // DoReFa's weights: odd integers, and a scale that is no power of two. Nothing but dy·scale and the result
  // is rounded to bf16; with weights in bf16 some of these products would be others.
  if (!has_native_bf16()) return;
  const OneThread one_thread;
  const float scale = 0.1f / 127;
  std::vector<std::int8_t> odd;
  for (int q = -127; q <= 127; q += 2) odd.push_back(static_cast<std::int8_t>(q));
  const auto count = static_cast<std::int64_t>(odd.size());
  const auto in_bf16 = [](float value) {
    return kernels::convert(kernels::convert(Tensor::full({1}, value), DType::bf16), DType::f32).item();
  };
  Tensor weights = Tensor::from<std::int8_t>({1, count}, odd);
  weights.set_fixed_point({.scale = scale, .is_signed = true});
  const Var x(reference::random_fixed_point({1, count}, 1, {.scale = 0.017f}), true);
  const Var w(reference::random({1, count}, 2), true), b(Tensor::zeros({1}), true);
  backward(linear_integer(x, w, weights, b, Engine::integer, GradFormat::bf16), Tensor::full({1, 1}, 1));
  const std::vector<double> found = reference::numbers(x.grad());
  int rounded_first = 0;
  for (std::size_t i = 0; i < odd.size(); ++i) {
    INFO(int(odd[i]));
    CHECK(found[i] == in_bf16(in_bf16(scale) * odd[i]));
    rounded_first += found[i] != in_bf16(scale * odd[i]);
  }
  CHECK(rounded_first > 0);  // the two are not the same numbers
}

TEST_CASE("scales that are powers of two leave gradients the bits of scaled weights",
          "[learned_scale][ops]") {
  // FAQ's networks keep their bits: the gradients were once made with q·scale, now with q.
  const OneThread one_thread;
  const Shape xs{3, 9, 7, 16}, ws{8, 16, 3, 3}, ys{3, 9, 7, 8};
  const ConvGeometry options{.padding = 1};
  for (const GradFormat& grads : gradient_formats()) {
    for (const int bits : {4, 8}) {
      INFO("gradient " << grads << ", " << bits << " bits");
      const DType dtype = grads.dtype();
      const Var x(reference::random_fixed_point(xs, 1, {.scale = 1.0f / 64, .bits = bits}), true);
      const Var w(reference::random(ws, 2), true);
      const Tensor q = kernels::quantize(w.value(), {.scale = 1.0f / 8, .bits = bits, .is_signed = true});
      const NormState norm{Var(reference::random({8}, 4, 0.5, 1.5), true),
                           Var(reference::random({8}, 5, -0.5, 0.5), true), Tensor::zeros({8}),
                           Tensor::full({8}, 1)};
      const FixedPoint format{.scale = 1.0f / 8, .bits = bits};
      const Tensor dy = gradient(ys, 6, dtype);
      backward(conv_norm_act_integer(x, w, q, norm, {}, options, Engine::integer, grads, {.format = format}),
               dy);

      const kernels::Accumulators sums =
          kernels::conv2d_accumulators(x.value(), q, options, Engine::integer, true);
      kernels::NormActParams params{Tensor::empty({8}), Tensor::empty({8}), {}, Activation::relu, format};
      for (std::int64_t c = 0; c < 8; ++c) {
        const double scale =
            norm.gamma.value().data<float>()[c] /
            std::sqrt(static_cast<double>(sums.statistics->variance.data<float>()[c]) + norm.eps);
        params.scale.mutable_data<float>()[c] = static_cast<float>(scale);
        params.shift.mutable_data<float>()[c] = static_cast<float>(
            norm.beta.value().data<float>()[c] - scale * sums.statistics->mean.data<float>()[c]);
      }
      const kernels::NormActBackward pass(dy, sums.values, params, *sums.statistics, norm.gamma.value(),
                                          norm.eps);
      Tensor gradient = Tensor::empty(ys, dtype), none;
      pass.apply(0, 3, gradient, none);
      const kernels::PackedWeights scaled = kernels::PackedWeights(q).as(dtype);
      CHECK(reference::same_bytes(x.grad(),
                                  kernels::conv2d_backward_data(gradient, scaled, xs, options, dtype)));
      Tensor dw = kernels::conv2d_backward_weights(x.value(), gradient, ws, options);
      kernels::scale_in_place(dw, 1.0f / 64);
      CHECK(reference::same_bytes(w.grad(), dw));

      // The classifier's.
      const Var rows(reference::random_fixed_point({5, 16}, 7, {.scale = 1.0f / 32}), true);
      const Var matrix(reference::random({3, 16}, 8), true), bias(Tensor::zeros({3}), true);
      const Tensor integers = kernels::quantize(matrix.value(), {.scale = 1.0f / 64, .is_signed = true});
      const Tensor dlogits = testing::gradient({5, 3}, 9, DType::f32);
      backward(linear_integer(rows, matrix, integers, bias, Engine::integer, grads), dlogits);
      const Tensor dimage = kernels::convert(dlogits, dtype).reshaped({5, 1, 1, 3});
      CHECK(reference::same_bytes(
          rows.grad(), kernels::conv2d_backward_data(dimage, kernels::PackedWeights(integers).as(dtype),
                                                     {5, 1, 1, 16}, {}, dtype)
                           .reshaped({5, 16})));
      Tensor dmatrix =
          kernels::conv2d_backward_weights(rows.value().reshaped({5, 1, 1, 16}), dimage, {3, 16, 1, 1}, {});
      kernels::scale_in_place(dmatrix, 1.0f / 32);
      CHECK(reference::same_bytes(matrix.grad(), dmatrix.reshaped({3, 16})));
    }
  }
}
