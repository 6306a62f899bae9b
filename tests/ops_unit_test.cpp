#include "core/ops.h"

#include <functional>

#include "core/allocator.h"
#include "core/kernels/norm.h"
#include "core/kernels/unit.h"
#include "tests/catch.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a quantized residual unit, gradients against double", "[ops][isa]") {
  // norm_act(conv2d_integer(x, w), residual) as networks use it: mask, batch statistics and convolution
  // together.
  const ConvGeometry options{.padding = 1};
  const Shape xs{2, 6, 5, 8}, ws{4, 8, 3, 3}, ys{2, 6, 5, 4};
  for (const GradFormat& grads : gradient_formats()) {
    INFO("gradient " << grads);
    const Var x(reference::random_fixed_point(xs, 1, {.scale = 1.0f / 64}), true);
    const Var w(reference::random(ws, 2), true);
    const Var residual(reference::random_fixed_point(ys, 3, {.scale = 1.0f / 64}), true);
    const Tensor q = kernels::quantize(w.value(), {.scale = 1.0f / 128, .is_signed = true});
    NormState norm{Var(reference::random({4}, 4, 0.5, 1.5), true),
                   Var(reference::random({4}, 5, -1.5, -0.5), true), Tensor::zeros({4}),
                   Tensor::full({4}, 1)};
    const FixedPoint format{.scale = 1.0f / 8, .bits = 4};
    const Var y = norm_act(conv2d_integer(x, w, q, options, Engine::integer, grads), norm, residual,
                           {.format = format});

    // Forward in double.
    const std::vector<double> xd = reference::numbers(x.value()), wd = reference::numbers(q);
    const std::vector<double> conv = reference::conv2d(xd, xs, wd, ws, options);
    const std::vector<double> added = reference::numbers(residual.value());
    const auto n = static_cast<double>(conv.size() / 4);
    std::vector<double> mean(4), sigma(4), xhat(conv.size());
    for (std::size_t i = 0; i < conv.size(); ++i) mean[i % 4] += conv[i] / n;
    for (std::size_t i = 0; i < conv.size(); ++i) sigma[i % 4] += std::pow(conv[i] - mean[i % 4], 2) / n;
    for (double& s : sigma) s = std::sqrt(s + 1e-5);
    Tensor dy = gradient(ys, 6, grads.dtype());
    std::vector<double> dz = reference::numbers(dy);
    int zero = 0, high = 0;
    for (std::size_t i = 0; i < conv.size(); ++i) {
      const std::size_t c = i % 4;
      xhat[i] = (conv[i] - mean[c]) / sigma[c];
      const double z =
          norm.gamma.value().data<float>()[c] * xhat[i] + norm.beta.value().data<float>()[c] + added[i];
      REQUIRE(std::abs(z) > 1e-5);  // else f32 might decide otherwise
      REQUIRE(std::abs(z - format.max() * format.scale) > 1e-5);
      if (z <= 0) dz[i] = 0, ++zero;
      if (z > format.max() * format.scale) dz[i] = 0, ++high;
      const double expected = std::clamp(std::nearbyint(z / format.scale), 0.0, 15.0);
      CHECK(std::abs(y.value().data<std::uint8_t>()[i] - expected) <=
            (std::abs(std::remainder(z / format.scale - 0.5, 1.0)) < 1e-4));
    }
    CHECK(zero > 10);
    CHECK(high > 10);

    // Backward in double.
    std::vector<double> sum(4), product(4), dconv(conv.size());
    for (std::size_t i = 0; i < conv.size(); ++i) sum[i % 4] += dz[i], product[i % 4] += dz[i] * xhat[i];
    for (std::size_t i = 0; i < conv.size(); ++i) {
      const std::size_t c = i % 4;
      dconv[i] =
          norm.gamma.value().data<float>()[c] / sigma[c] * (dz[i] - sum[c] / n - xhat[i] * product[c] / n);
    }
    backward(y, dy);
    CHECK(reference::numbers(residual.grad()) == dz);
    CHECK(reference::relative_error(norm.gamma.grad(), product) < 1e-5);
    CHECK(reference::relative_error(norm.beta.grad(), sum) < 1e-5);
    CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dconv, xs, wd, ws, options)) <
          tolerance(grads.dtype()));
    CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dconv, xd, xs, ws, options)) <
          tolerance(grads.dtype()));
  }
}

TEST_CASE("a fused unit computes what its two ops compute", "[ops][isa]") {
  struct Row {
    const char* what;
    Shape x;
    std::int64_t out;
    ConvGeometry options;
    int bits;
    bool is_signed, residual, relu;
    bool batch_statistics = true, bias = false;
  };
  // More images than a slice holds; accumulators that fit into 16 bits, and ones that do not.
  const Row rows[] = {
      {"narrow", {5, 9, 7, 8}, 16, {.padding = 1}, 4, false, true, true},
      {"several slices", {40, 32, 32, 4}, 16, {.padding = 1}, 4, false, true, true},
      {"stride", {3, 9, 9, 16}, 8, {.stride = 2, .padding = 1}, 4, false, false, true},
      {"wide", {5, 9, 7, 64}, 16, {.padding = 1}, 8, false, true, true},
      {"no activation", {4, 6, 6, 8}, 8, {.padding = 1}, 4, false, true, false},
      {"signed input", {4, 8, 8, 3}, 16, {.padding = 1}, 8, true, false, true},
      {"constant statistics", {4, 6, 6, 8}, 8, {.padding = 1}, 4, false, false, true, false},
      {"bias", {4, 6, 6, 8}, 8, {.padding = 1}, 4, false, true, true, true, true},
      {"bias and constant statistics", {4, 6, 6, 8}, 8, {.padding = 1}, 4, false, true, true, false, true}};
  for (const Row& row : rows) {
    INFO(row.what);
    for (const GradFormat& grads : gradient_formats()) {
      INFO("gradient " << grads);
      for (const Engine engine : {Engine::integer, Engine::simulated}) {
        const Shape ws{row.out, row.x[3], 3, 3};
        const Shape ys = kernels::conv2d_shape(row.x, ws, row.options);
        const FixedPoint input{.scale = 1.0f / 64, .bits = row.bits, .is_signed = row.is_signed};
        struct Result {
          std::vector<double> y;
          std::vector<std::vector<double>> grads;
          NormState norm;
        };
        const auto run = [&](auto unit) {
          const Var x(reference::random_fixed_point(row.x, 1, input), true);
          const Var w(reference::random(ws, 2), true);
          const Var residual = row.residual ? Var(reference::random_fixed_point(ys, 3, input), true) : Var();
          const Tensor q =
              kernels::quantize(w.value(), {.scale = 1.0f / 4, .bits = row.bits, .is_signed = true});
          NormState norm{Var(reference::random({row.out}, 4, 0.5, 1.5), true),
                         Var(reference::random({row.out}, 5, -0.5, 0.5), true), Tensor::zeros({row.out}),
                         Tensor::full({row.out}, 1)};
          if (row.bias) norm.conv_bias = Var(reference::random({row.out}, 7), true);
          const NormActOptions options{
              .activation = row.relu ? Activation::relu : Activation::identity,
              .format = FixedPoint{.scale = 1.0f / 8, .bits = row.bits, .is_signed = !row.relu},
              .batch_statistics = row.batch_statistics};
          LearnedStatistics learned;
          const Var y = unit(x, w, q, norm, residual, options, learned);
          if (row.batch_statistics) update_running(norm, learned, norm.momentum);
          Result result{reference::numbers(y.value()), {}, norm};
          backward(y, gradient(ys, 6, grads.dtype()));
          for (const Var& v : {x, w, norm.gamma, norm.beta})
            result.grads.push_back(reference::numbers(v.grad()));
          if (residual) result.grads.push_back(reference::numbers(residual.grad()));
          if (row.bias) result.grads.push_back(reference::numbers(norm.conv_bias.grad()));
          return result;
        };
        const Result fused =
            run([&](auto& x, auto& w, auto& q, auto& norm, auto& residual, auto& options, auto& learned) {
              return conv_norm_act_integer(x, w, q, norm, residual, row.options, engine, grads, options,
                                           &learned);
            });
        const Result apart =
            run([&](auto& x, auto& w, auto& q, auto& norm, auto& residual, auto& options, auto& learned) {
              return norm_act(conv2d_integer(x, w, q, row.options, engine, grads), norm, residual, options,
                              &learned);
            });
        CHECK(fused.y == apart.y);
        REQUIRE(fused.grads.size() == apart.grads.size());
        // Two orders of adding up thousands of f32: the same to a few times what one is off.
        for (std::size_t i = 0; i < fused.grads.size(); ++i)
          CHECK(reference::relative_error(fused.grads[i], apart.grads[i]) < 4 * tolerance(grads.dtype()));
        CHECK(fused.grads[2] == apart.grads[2]);
        CHECK(fused.grads[3] == apart.grads[3]);
        CHECK(reference::numbers(fused.norm.running_mean) == reference::numbers(apart.norm.running_mean));
        CHECK(reference::numbers(fused.norm.running_variance) ==
              reference::numbers(apart.norm.running_variance));
      }
    }
  }
}

TEST_CASE("the tape does not hold the layouts of the forward pass", "[ops]") {
  const Var x(reference::random_fixed_point({2, 6, 6, 32}, 1, {.scale = 1.0f / 16, .bits = 4}), true);
  const Var w(reference::random({16, 32, 3, 3}, 2), true), matrix(reference::random({16, 1152}, 3), true);
  const Var row(reference::random_fixed_point({2, 1152}, 4, {.scale = 1.0f / 16, .bits = 4}), true);
  const Var bias(Tensor::zeros({16}), true);
  const FixedPoint format{.scale = 0.25f, .bits = 4, .is_signed = true};
  const ConvGeometry geometry{.padding = 1};
  NormState norm{Var(Tensor::full({16}, 1), true), Var(Tensor::zeros({16}), true), Tensor::zeros({16}),
                 Tensor::full({16}, 1)};
  using Op = std::function<Var(const kernels::PackedWeights&)>;
  const std::pair<Var, Op> ops[] = {
      {w, [&](const auto& q) { return conv2d_integer(x, w, q, geometry, Engine::integer, GradFormat::f32); }},
      {matrix,
       [&](const auto& q) { return linear_integer(row, matrix, q, bias, Engine::integer, GradFormat::f32); }},
      {w, [&](const auto& q) {
         return conv_norm_act_integer(x, w, q, norm, {}, geometry, Engine::integer, GradFormat::f32,
                                      {.format = FixedPoint{.scale = 0.5f, .bits = 4}});
       }}};
  for (const auto& [weights, op] : ops) {
    kernels::PackedWeights packed(kernels::quantize(weights.value(), format));
    const Var y = op(packed);
    const std::size_t with_layouts = memory_stats().in_use;
    packed = {};  // nobody else holds them
    CHECK(memory_stats().in_use < with_layouts);
  }
}

TEST_CASE("accumulators are kept in 16 bits when all of a batch fit", "[ops]") {
  // The last image alone decides: only its products are large.
  for (const int last : {1, 40}) {
    INFO("last image " << last);
    const Shape xs{33, 32, 32, 16};
    Tensor x = Tensor::empty(xs, DType::u8);
    x.set_fixed_point({.scale = 1, .bits = 8});
    const std::int64_t image = x.numel() / xs[0];
    // Not the same twice: memory used again would hold the right numbers already.
    std::ranges::fill(x.mutable_span<std::uint8_t>(), static_cast<std::uint8_t>(last == 1 ? 1 : 2));
    std::fill_n(x.mutable_data<std::uint8_t>() + 32 * image, image, static_cast<std::uint8_t>(last));
    Tensor w = Tensor::empty({16, 16, 3, 3}, DType::s8);
    std::ranges::fill(w.mutable_span<std::int8_t>(), std::int8_t{7});
    w.set_fixed_point({.scale = 0.5f, .is_signed = true});
    const ConvGeometry options{.padding = 1};
    const auto kept = kernels::conv2d_accumulators(x, w, options, Engine::integer, true);
    CHECK(kept.values.dtype() == (last == 1 ? DType::s16 : DType::s32));
    Tensor sums = kernels::conv2d_integer(x, w, options, Engine::integer);
    CHECK(reference::elements<double>(kept.values) == reference::elements<double>(sums));
    sums.set_fixed_point(kept.values.fixed_point());
    const auto bare = kernels::conv2d_accumulators(x, w, options, Engine::integer, false);
    CHECK_FALSE(bare.statistics.has_value());
    CHECK(reference::same_bytes(bare.values, kept.values));
    const auto statistics = kernels::channel_statistics(sums);
    CHECK(reference::numbers(kept.statistics->mean) == reference::numbers(statistics.mean));
    CHECK(reference::numbers(kept.statistics->variance) == reference::numbers(statistics.variance));
  }
}
