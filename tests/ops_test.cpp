#include "core/ops.h"

#include "core/cpu.h"
#include "core/kernels/norm.h"
#include "core/kernels/unit.h"
#include "tests/catch.h"
#include "tests/gradcheck.h"
#include "tests/reference.h"

using namespace faq;

namespace {

using Inputs = const std::vector<Var>&;

NormState norm_state(const Var& gamma, const Var& beta) {
  const std::int64_t channels = gamma.value().numel();
  return {gamma, beta, reference::random({channels}, 50, -0.2, 0.2),
          reference::random({channels}, 51, 0.5, 1.5)};
}

// The values a bf16 gradient has: exactly what the operation receives.
Tensor gradient(const Shape& shape, std::uint64_t salt, DType dtype) {
  return kernels::convert(reference::random(shape, salt), dtype);
}

// One rounding of the result, and that of the intermediate values in bf16.
double tolerance(DType dtype) { return dtype == DType::bf16 ? 1.0 / 128 : 1e-5; }

std::vector<DType> gradient_dtypes() {
  if (has_native_bf16()) return {DType::f32, DType::bf16};
  return {DType::f32};
}

Tensor quantized_weights(const Tensor& w, const FixedPoint& format) { return kernels::quantize(w, format); }

}  // namespace

TEST_CASE("conv2d gradient", "[ops][isa]") {
  struct Row {
    Shape x, w;
    ConvOptions options;
  };
  const Row rows[] = {{{2, 5, 5, 3}, {4, 3, 3, 3}, {.padding = 1}},
                      {{2, 5, 6, 3}, {4, 3, 3, 3}, {.stride = 2, .padding = 1}},
                      {{1, 6, 5, 2}, {3, 2, 1, 1}, {}},
                      {{2, 5, 5, 4}, {3, 4, 1, 1}, {.stride = 2}},
                      {{1, 7, 7, 2}, {2, 2, 5, 5}, {.stride = 2, .padding = 2}},
                      {{1, 8, 8, 1}, {2, 1, 7, 7}, {.stride = 2, .padding = 3}},
                      {{1, 5, 6, 2}, {3, 2, 1, 7}, {.padding = {0, 3}}},
                      {{1, 6, 5, 2}, {2, 2, 3, 1}, {.padding = {1, 0}}}};
  for (const Row& row : rows) {
    INFO("x " << row.x << ", w " << row.w);
    gradcheck([&](Inputs in) { return conv2d(in[0], in[1], row.options); }, {row.x, row.w});
  }
}

TEST_CASE("linear gradient", "[ops][isa]") {
  gradcheck([](Inputs in) { return linear(in[0], in[1], in[2]); }, {{4, 7}, {5, 7}, {5}});
  gradcheck([](Inputs in) { return linear(in[0], in[1], in[2]); }, {{1, 1}, {2, 1}, {2}});
}

TEST_CASE("norm_act gradient", "[ops]") {
  for (bool training : {true, false}) {
    INFO("training " << training);
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, {}, {.relu = false, .format = {}, .training = training});
        },
        {{3, 4, 3, 5}, {5}, {5}});
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, in[3], {.relu = false, .format = {}, .training = training});
        },
        {{2, 4, 3, 3}, {3}, {3}, {2, 4, 3, 3}});
    // |γ·x̂| > 2|β|: no value near ReLU's kink.
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, {}, {.format = {}, .training = training});
        },
        {{3, 4, 3, 5}, {5}, {5}}, {.away_from_zero = 0.8, .scales = {1, 1, 0.2}});
    // The residual decides the sign.
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, in[3], {.format = {}, .training = training});
        },
        {{2, 4, 3, 3}, {3}, {3}, {2, 4, 3, 3}}, {.away_from_zero = 0.8, .scales = {1, 0.5, 0.2, 2}});
  }
  // Only constant statistics leave something of a convolution's bias.
  gradcheck(
      [](Inputs in) {
        NormState norm = norm_state(in[1], in[2]);
        norm.conv_bias = in[3];
        return norm_act(in[0], norm, {}, {.relu = false, .format = {}, .training = false});
      },
      {{3, 4, 3, 5}, {5}, {5}, {5}});
}

TEST_CASE("pooling gradients", "[ops]") {
  gradcheck([](Inputs in) { return global_avg_pool(in[0]); }, {{2, 3, 5, 4}});
  for (const kernels::MaxPoolOptions& options : {kernels::MaxPoolOptions{},
                                                 {.kernel = 2, .stride = 2, .padding = 0},
                                                 {.kernel = 3, .stride = 1, .padding = 1},
                                                 {.kernel = 2, .stride = 3, .padding = 1}}) {
    INFO("kernel " << options.kernel << ", stride " << options.stride << ", padding " << options.padding);
    gradcheck([&](Inputs in) { return max_pool(in[0], options); }, {{2, 5, 6, 3}}, {.eps = 2e-3});
  }
}

TEST_CASE("average pooling gradients", "[ops]") {
  for (const kernels::AvgPoolOptions& options : {kernels::AvgPoolOptions{},
                                                 {.kernel = 3, .stride = 1, .padding = 1},
                                                 {.kernel = 5, .stride = 3},
                                                 {.output = 1},
                                                 {.output = 3},
                                                 {.output = 7}}) {
    INFO("kernel " << options.kernel << ", stride " << options.stride << ", padding " << options.padding
                   << ", output " << options.output);
    gradcheck([&](Inputs in) { return avg_pool(in[0], options); }, {{2, 5, 6, 3}});
  }
  // Of integers: the mean is rounded, the gradient is that of the mean.
  const Tensor values = reference::random({2, 5, 6, 3}, 1), dy = reference::random({2, 2, 3, 3}, 2);
  const Var real(values, true),
      integer(reference::random_fixed_point({2, 5, 6, 3}, 1, {.step = 0.5f, .is_signed = true}), true);
  backward(avg_pool(real, {}), dy);
  backward(avg_pool(integer, {}), dy);
  CHECK(reference::same_bytes(real.grad(), integer.grad()));
}

TEST_CASE("concatenation, reshape, scale and conversion: gradients", "[ops]") {
  gradcheck([](Inputs in) { return concat_channels(in); }, {{2, 3, 4, 5}, {2, 3, 4, 1}, {2, 3, 4, 3}});
  gradcheck([](Inputs in) { return concat_channels(std::vector{in[0], in[0]}); }, {{1, 2, 2, 3}});
  gradcheck([](Inputs in) { return scale(reshape(in[0], {4, 6}), 0.4f); }, {{2, 3, 4}});
  // What wants no gradient gets none.
  const Var wanted(reference::random({1, 2, 2, 3}, 1), true), constant(reference::random({1, 2, 2, 2}, 2));
  backward(concat_channels(std::vector{constant, wanted}), Tensor::full({1, 2, 2, 5}, 2));
  CHECK(reference::numbers(wanted.grad()) == std::vector<double>(12, 2));
  CHECK_FALSE(constant.grad().defined());

  const Var integers(reference::random_fixed_point({2, 3}, 1, {.step = 0.25f}), true);
  const Var real = to_float(integers);
  CHECK(real.value().dtype() == DType::f32);
  CHECK(reference::numbers(real.value()) == reference::numbers(integers.value()));
  CHECK(to_float(real).same_node(real));
  const Tensor dy = reference::random({2, 3}, 3);
  backward(real, dy);
  CHECK(reference::same_bytes(integers.grad(), dy));
}

TEST_CASE("tanh, straight-through and KL divergence", "[ops]") {
  gradcheck([](Inputs in) { return tanh(in[0]); }, {{3, 50}});
  gradcheck(
      [](Inputs in) {
        return kl_divergence(in[0], Tensor::from({2, 3}, {1, -2, 0.5f, 0, 0, 3}));
      },
      {{2, 3}});
  const Var x(reference::random({4, 5}, 1, -1, 1), true);
  const Tensor value = reference::random({4, 5}, 2, -1, 1);
  const Var y = straight_through(x, value);
  CHECK(reference::same_bytes(y.value(), value));
  const Tensor dy = reference::random({4, 5}, 3, -1, 1);
  backward(y, dy);
  CHECK(reference::same_bytes(x.grad(), dy));
  CHECK_THROWS_AS(straight_through(x, Tensor::zeros({5, 4})), Error);

  // Σ p·log(p/q), from the definition; nothing of itself.
  const Tensor target = Tensor::from({1, 2}, {std::log(3.0f), 0}), logits = Tensor::from({1, 2}, {0, 0});
  CHECK(kl_divergence(Var(logits), target).value().item() ==
        Approx(0.75 * std::log(1.5) + 0.25 * std::log(0.5)));
  CHECK(kl_divergence(Var(target), target).value().item() == Approx(0).margin(1e-12));
  CHECK_THROWS_AS(kl_divergence(Var(logits), Tensor::zeros({1, 3})), Error);
  // Far apart, nothing overflows.
  const Tensor far = Tensor::from({1, 2}, {500, -500});
  CHECK(kl_divergence(Var(far), Tensor::from({1, 2}, {-500, 500})).value().item() == Approx(1000));
}

TEST_CASE("dropout: what stays is larger, and so is its gradient", "[ops]") {
  const Tensor keep = reference::random_integers<std::uint8_t>({3, 50}, 1, 0, 1);
  const std::vector<double> kept = reference::elements<double>(keep);
  gradcheck([&](Inputs in) { return dropout(in[0], keep, 0.3f); }, {{3, 50}});
  for (DType dtype : gradient_dtypes()) {
    const Var x(reference::random_fixed_point({3, 50}, 2, {.step = 0.25f}), true);
    const Var y = dropout(x, keep, 0.5f);
    CHECK(y.value().dtype() == DType::u8);
    CHECK(y.value().fixed_point() == FixedPoint{.step = 0.5f});
    const Tensor dy = gradient({3, 50}, 3, dtype);
    backward(y, dy);
    CHECK(x.grad().dtype() == dtype);
    const auto in = reference::numbers(x.value()), out = reference::numbers(y.value()),
               din = reference::numbers(x.grad()), dout = reference::numbers(dy);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      CHECK(out[i] == 2 * kept[i] * in[i]);
      CHECK(din[i] == 2 * kept[i] * dout[i]);
    }
  }
  const Var integers(reference::random_fixed_point({3, 50}, 2, {.step = 0.25f}));
  CHECK_THROWS_WITH(dropout(integers, keep, 0.3f), Catch::Contains("integers cannot be multiplied"));
  CHECK_THROWS_AS(dropout(integers, Tensor::zeros({3, 49}, DType::u8), 0.5f), Error);
  CHECK_THROWS_AS(dropout(integers, keep, 1.0f), Error);
}

TEST_CASE("the bias of a convolution in front of a normalisation", "[ops]") {
  // As if it were added: the mean of the batch takes it away, the running mean keeps it.
  const Tensor x = reference::random({3, 4, 4, 5}, 1), bias = reference::random({5}, 2, -3, 3);
  Tensor shifted = x.clone();
  for (std::int64_t i = 0; i < x.numel(); ++i) shifted.mutable_data<float>()[i] += bias.data<float>()[i % 5];
  for (const bool training : {true, false}) {
    INFO("training " << training);
    const auto state = [] {
      return norm_state(Var(reference::random({5}, 3, 0.5, 1), true), Var(reference::random({5}, 4), true));
    };
    const NormActOptions options{.relu = false, .format = {}, .training = training};
    NormState with = state(), without = state();
    with.conv_bias = Var(bias, true);
    const Var input(x, true), moved(shifted, true);
    const Var y = norm_act(input, with, {}, options), expected = norm_act(moved, without, {}, options);
    CHECK(reference::relative_error(y.value(), reference::numbers(expected.value())) < 1e-6);
    CHECK(reference::relative_error(with.running_mean, reference::numbers(without.running_mean)) < 1e-6);
    CHECK(reference::relative_error(with.running_variance, reference::numbers(without.running_variance)) <
          1e-5);
    const Tensor dy = reference::random(y.shape(), 5);
    backward(y, dy);
    backward(expected, dy);
    CHECK(reference::relative_error(input.grad(), reference::numbers(moved.grad())) < 1e-5);
    CHECK(reference::relative_error(with.gamma.grad(), reference::numbers(without.gamma.grad())) < 1e-5);
    // A bias that is added has the sums of the gradient of what it is added to.
    std::vector<double> dbias(5);
    const std::vector<double> dmoved = reference::numbers(moved.grad());
    for (std::size_t i = 0; i < dmoved.size(); ++i) dbias[i % 5] += training ? 0 : dmoved[i];
    CHECK(reference::relative_error(with.conv_bias.grad(), dbias) < 1e-5);
  }
}

TEST_CASE("shortcut gradient", "[ops]") {
  gradcheck([](Inputs in) { return subsample_and_pad(in[0], 2, 8); }, {{2, 5, 4, 4}});
  gradcheck([](Inputs in) { return subsample_and_pad(in[0], 1, 7); }, {{1, 3, 3, 4}});
  gradcheck([](Inputs in) { return subsample_and_pad(in[0], 2, 3); }, {{1, 4, 4, 3}});
  const Var x(reference::random({1, 2, 2, 3}, 1), true);
  CHECK(subsample_and_pad(x, 1, 3).same_node(x));
}

TEST_CASE("relu and add gradients", "[ops]") {
  gradcheck([](Inputs in) { return relu(in[0]); }, {{5, 7}}, {.away_from_zero = 0.1});
  gradcheck([](Inputs in) { return add(in[0], in[1]); }, {{5, 7}, {5, 7}});
  gradcheck([](Inputs in) { return add(in[0], relu(in[0])); }, {{5, 7}}, {.away_from_zero = 0.1});
}

TEST_CASE("cross_entropy gradient", "[ops]") {
  const std::vector<std::int32_t> labels{2, 0, 6, 3};
  for (float smoothing : {0.0f, 0.1f, 0.5f}) {
    INFO("smoothing " << smoothing);
    gradcheck([&](Inputs in) { return cross_entropy(in[0], labels, smoothing); }, {{4, 7}}, {.scales = {3}});
  }
}

TEST_CASE("running statistics follow PyTorch's convention", "[ops]") {
  const Tensor x = reference::random({2, 3, 1, 2}, 1, 1, 3);
  NormState norm{Var(Tensor::full({2}, 1), true), Var(Tensor::zeros({2}), true), Tensor::full({2}, 5),
                 Tensor::full({2}, 7)};
  const std::vector<double> values = reference::numbers(x);
  norm_act(Var(x), norm, {}, {.format = {}, .training = false});
  CHECK(reference::numbers(norm.running_mean) == std::vector<double>{5, 5});
  norm.momentum = 0.25f;
  norm_act(Var(x), norm, {}, {.format = {}});
  for (int c = 0; c < 2; ++c) {
    double mean = 0, variance = 0;
    for (int i = 0; i < 6; ++i) mean += values[2 * i + c] / 6;
    for (int i = 0; i < 6; ++i) variance += std::pow(values[2 * i + c] - mean, 2) / 5;  // unbiased
    CHECK(norm.running_mean.data<float>()[c] == Approx(0.75 * 5 + 0.25 * mean));
    CHECK(norm.running_variance.data<float>()[c] == Approx(0.75 * 7 + 0.25 * variance));
  }
}

TEST_CASE("the backward pass sees the statistics and parameters of its forward pass", "[ops]") {
  const Var x(reference::random({2, 3, 3, 4}, 1), true);
  const auto run = [&](bool disturb, bool training) {
    Var input(x.value(), true);
    NormState norm =
        norm_state(Var(reference::random({4}, 2, 0.5, 1), true), Var(reference::random({4}, 3), true));
    const Var y = norm_act(input, norm, {}, {.format = {}, .training = training});
    if (disturb) {
      for (Tensor* t : {&norm.running_mean, &norm.running_variance, &norm.gamma.mutable_value(),
                        &norm.beta.mutable_value()}) {
        std::ranges::fill(t->mutable_span<float>(), 3.0f);
      }
    }
    backward(y, reference::random(y.shape(), 4));
    return input.grad();
  };
  for (bool training : {true, false}) CHECK(reference::same_bytes(run(false, training), run(true, training)));
}

// --- straight-through operations: their stated formula in double
// ------------------------------------------------------

TEST_CASE("quantize: straight-through gradient", "[ops]") {
  const FixedPoint formats[] = {{.step = 0.25f, .bits = 4},
                                {.step = 1.0f / 64, .bits = 8},
                                {.step = 0.125f, .bits = 4, .is_signed = true}};
  for (const FixedPoint& format : formats) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      INFO(format << ", gradient " << dtype);
      const Tensor x = reference::random({3, 5, 5, 8}, 1, -5, 5);
      const Var input(x, true);
      const Var y = quantize(input, format);
      CHECK(y.value().fixed_point() == format);
      const Tensor dy = gradient(x.shape(), 2, dtype);
      backward(y, dy);
      std::vector<double> expected = reference::numbers(dy);
      const std::vector<double> values = reference::numbers(x);
      int clipped = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) {
        const double q = values[i] / format.step;
        if (q < format.min() || q > format.max()) expected[i] = 0, ++clipped;
      }
      CHECK(clipped > 10);
      CHECK(clipped < x.numel() - 10);
      CHECK(input.grad().dtype() == dtype);
      CHECK(reference::numbers(input.grad()) == expected);
    }
  }
}

TEST_CASE("conv2d_integer: value and gradients", "[ops][isa]") {
  struct Row {
    Shape x, w;
    ConvOptions options;
    FixedPoint input;
    FixedPoint weights;
  };
  const Row rows[] = {
      {{2, 6, 6, 8},
       {4, 8, 3, 3},
       {.padding = 1},
       {.step = 1.0f / 16},
       {.step = 1.0f / 128, .is_signed = true}},
      {{2, 7, 6, 3},
       {5, 3, 7, 7},
       {.stride = 2, .padding = 3},
       {.step = 1.0f / 32, .is_signed = true},
       {.step = 1.0f / 128, .is_signed = true}},
      {{1, 5, 5, 16},
       {8, 16, 1, 1},
       {.stride = 2},
       {.step = 0.5f, .bits = 4},
       {.step = 0.25f, .bits = 4, .is_signed = true}},
  };
  for (const Row& row : rows) {
    for (DType dtype : gradient_dtypes()) {
      INFO("x " << row.x << " " << row.input << ", w " << row.w << " " << row.weights << ", gradient "
                << dtype);
      const Var x(reference::random_fixed_point(row.x, 1, row.input), true);
      const Var w(reference::random(row.w, 2), true);
      const Tensor q = quantized_weights(w.value(), row.weights);
      const std::vector<double> xd = reference::numbers(x.value()), wd = reference::numbers(q);
      for (Engine engine : {Engine::integer, Engine::simulated}) {
        Var input(x.value(), true), master(w.value(), true);
        const Var y = conv2d_integer(input, master, q, row.options, engine, dtype);
        CHECK(y.value().dtype() == DType::s32);
        CHECK(reference::numbers(y.value()) == reference::conv2d(xd, row.x, wd, row.w, row.options));
        const Tensor dy = gradient(y.shape(), 3, dtype);
        backward(y, dy);
        const std::vector<double> dyd = reference::numbers(dy);
        CHECK(input.grad().dtype() == dtype);
        CHECK(reference::relative_error(
                  input.grad(), reference::conv2d_dx(dyd, row.x, wd, row.w, row.options)) < tolerance(dtype));
        CHECK(master.grad().dtype() == DType::f32);
        // Inputs and gradients are exact in bf16, sums are f32.
        CHECK(reference::relative_error(master.grad(),
                                        reference::conv2d_dw(dyd, xd, row.x, row.w, row.options)) < 1e-5);
      }
    }
  }
}

TEST_CASE("conv2d and linear compute their gradients in the dtype they are given", "[ops][isa]") {
  for (DType dtype : gradient_dtypes()) {
    INFO("gradient " << dtype);
    const Shape xs{2, 6, 7, 16}, ws{24, 16, 3, 3};
    const ConvOptions options{.stride = 2, .padding = 1};
    const Var x(reference::random(xs, 1), true), w(reference::random(ws, 2), true);
    const Var y = conv2d(x, w, options, dtype);
    const Tensor dy = gradient(y.shape(), 3, dtype);
    backward(y, dy);
    const std::vector<double> dyd = reference::numbers(dy), xd = reference::numbers(x.value()),
                              wd = reference::numbers(w.value());
    CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dyd, xs, wd, ws, options)) <
          tolerance(dtype));
    CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dyd, xd, xs, ws, options)) <
          tolerance(dtype));
    CHECK(w.grad().dtype() == DType::f32);

    const Shape as_image{6, 1, 1, 33}, as_filter{10, 33, 1, 1};
    const Var a(reference::random({6, 33}, 4), true), m(reference::random({10, 33}, 5), true),
        b(reference::random({10}, 6), true);
    const Var z = linear(a, m, b, dtype);
    const Tensor dz = gradient(z.shape(), 7, dtype);
    backward(z, dz);
    const std::vector<double> dzd = reference::numbers(dz), ad = reference::numbers(a.value()),
                              md = reference::numbers(m.value());
    CHECK(reference::relative_error(a.grad(), reference::conv2d_dx(dzd, as_image, md, as_filter, {})) <
          tolerance(dtype));
    CHECK(reference::relative_error(m.grad(), reference::conv2d_dw(dzd, ad, as_image, as_filter, {})) <
          tolerance(dtype));
    CHECK(m.grad().dtype() == DType::f32);
  }
}

TEST_CASE("linear_integer: value and gradients", "[ops][isa]") {
  const FixedPoint weights{.step = 1.0f / 64, .bits = 8, .is_signed = true};
  for (const FixedPoint& format :
       {FixedPoint{.step = 1.0f / 16}, FixedPoint{.step = 1.0f / 16, .is_signed = true}}) {
    for (DType dtype : gradient_dtypes()) {
      INFO(format << ", gradient " << dtype);
      const Shape xs{6, 1, 1, 33}, ws{10, 33, 1, 1};
      const Var x(reference::random_fixed_point({6, 33}, 1, format), true);
      const Var w(reference::random({10, 33}, 2), true), b(reference::random({10}, 3), true);
      const Tensor q = quantized_weights(w.value(), weights);
      const std::vector<double> xd = reference::numbers(x.value()), wd = reference::numbers(q);
      const Var y = linear_integer(x, w, q, b, Engine::integer, dtype);
      CHECK(reference::same_bytes(y.value(), linear_integer(x, w, q, b, Engine::simulated, dtype).value()));
      std::vector<double> expected = reference::conv2d(xd, xs, wd, ws, {});
      for (std::size_t i = 0; i < expected.size(); ++i) {
        expected[i] = static_cast<float>(expected[i] + b.value().data<float>()[i % 10]);
      }
      CHECK(reference::numbers(y.value()) == expected);
      const Tensor dy = gradient({6, 10}, 4, dtype);
      backward(y, dy);
      const std::vector<double> dyd = reference::numbers(dy);
      CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dyd, xs, wd, ws, {})) <
            tolerance(dtype));
      CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dyd, xd, xs, ws, {})) < 1e-5);
      std::vector<double> db(10);
      for (std::size_t i = 0; i < dyd.size(); ++i) db[i % 10] += dyd[i];
      CHECK(reference::relative_error(b.grad(), db) < 1e-5);
    }
  }
}

TEST_CASE("global average of integers is exact", "[ops]") {
  const FixedPoint format{.step = 0.5f};
  const Var x(reference::random_fixed_point({2, 4, 4, 3}, 1, format), true);
  const Var y = global_avg_pool(x);
  CHECK(y.value().dtype() == DType::s32);
  CHECK(y.value().fixed_point().step == 0.5f / 16);
  std::vector<double> expected(6);
  const std::vector<double> values = reference::numbers(x.value());
  for (std::size_t i = 0; i < values.size(); ++i) expected[i / 48 * 3 + i % 3] += values[i] / 16;
  CHECK(reference::numbers(y.value()) == expected);
  backward(y, Tensor::full({2, 3}, 16));
  CHECK(reference::numbers(x.grad()) == std::vector<double>(96, 1.0));
}

TEST_CASE("a quantized residual unit, gradients against double", "[ops][isa]") {
  // norm_act(conv2d_integer(x, w), residual) as networks use it: mask, batch statistics and convolution
  // together.
  const ConvOptions options{.padding = 1};
  const Shape xs{2, 6, 5, 8}, ws{4, 8, 3, 3}, ys{2, 6, 5, 4};
  for (DType dtype : gradient_dtypes()) {
    INFO("gradient " << dtype);
    const Var x(reference::random_fixed_point(xs, 1, {.step = 1.0f / 64}), true);
    const Var w(reference::random(ws, 2), true);
    const Var residual(reference::random_fixed_point(ys, 3, {.step = 1.0f / 64}), true);
    const Tensor q = quantized_weights(w.value(), {.step = 1.0f / 128, .is_signed = true});
    NormState norm{Var(reference::random({4}, 4, 0.5, 1.5), true),
                   Var(reference::random({4}, 5, -1.5, -0.5), true), Tensor::zeros({4}),
                   Tensor::full({4}, 1)};
    const FixedPoint format{.step = 1.0f / 8, .bits = 4};
    const Var y = norm_act(conv2d_integer(x, w, q, options, Engine::integer, dtype), norm, residual,
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
    Tensor dy = gradient(ys, 6, dtype);
    std::vector<double> dz = reference::numbers(dy);
    int zero = 0, high = 0;
    for (std::size_t i = 0; i < conv.size(); ++i) {
      const std::size_t c = i % 4;
      xhat[i] = (conv[i] - mean[c]) / sigma[c];
      const double z =
          norm.gamma.value().data<float>()[c] * xhat[i] + norm.beta.value().data<float>()[c] + added[i];
      REQUIRE(std::abs(z) > 1e-5);  // else f32 might decide otherwise
      REQUIRE(std::abs(z - format.max() * format.step) > 1e-5);
      if (z <= 0) dz[i] = 0, ++zero;
      if (z > format.max() * format.step) dz[i] = 0, ++high;
      const double expected = std::clamp(std::nearbyint(z / format.step), 0.0, 15.0);
      CHECK(std::abs(y.value().data<std::uint8_t>()[i] - expected) <=
            (std::abs(std::remainder(z / format.step - 0.5, 1.0)) < 1e-4));
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
          tolerance(dtype));
    CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dconv, xd, xs, ws, options)) <
          tolerance(dtype));
  }
}

TEST_CASE("a fused unit computes what its two ops compute", "[ops][isa]") {
  struct Row {
    const char* what;
    Shape x;
    std::int64_t out;
    ConvOptions options;
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
    for (DType dtype : gradient_dtypes()) {
      INFO("gradient " << dtype);
      for (const Engine engine : {Engine::integer, Engine::simulated}) {
        const Shape ws{row.out, row.x[3], 3, 3};
        const Shape ys = kernels::conv2d_shape(row.x, ws, row.options);
        const FixedPoint input{.step = 1.0f / 64, .bits = row.bits, .is_signed = row.is_signed};
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
              quantized_weights(w.value(), {.step = 1.0f / 4, .bits = row.bits, .is_signed = true});
          NormState norm{Var(reference::random({row.out}, 4, 0.5, 1.5), true),
                         Var(reference::random({row.out}, 5, -0.5, 0.5), true), Tensor::zeros({row.out}),
                         Tensor::full({row.out}, 1)};
          if (row.bias) norm.conv_bias = Var(reference::random({row.out}, 7), true);
          const NormActOptions options{
              .relu = row.relu,
              .format = FixedPoint{.step = 1.0f / 8, .bits = row.bits, .is_signed = !row.relu},
              .training = row.batch_statistics};
          const Var y = unit(x, w, q, norm, residual, options);
          Result result{reference::numbers(y.value()), {}, norm};
          backward(y, gradient(ys, 6, dtype));
          for (const Var& v : {x, w, norm.gamma, norm.beta})
            result.grads.push_back(reference::numbers(v.grad()));
          if (residual) result.grads.push_back(reference::numbers(residual.grad()));
          if (row.bias) result.grads.push_back(reference::numbers(norm.conv_bias.grad()));
          return result;
        };
        const Result fused = run([&](auto& x, auto& w, auto& q, auto& norm, auto& residual, auto& options) {
          return conv_norm_act_integer(x, w, q, norm, residual, row.options, engine, dtype, options);
        });
        const Result apart = run([&](auto& x, auto& w, auto& q, auto& norm, auto& residual, auto& options) {
          return norm_act(conv2d_integer(x, w, q, row.options, engine, dtype), norm, residual, options);
        });
        CHECK(fused.y == apart.y);
        REQUIRE(fused.grads.size() == apart.grads.size());
        // Two orders of adding up thousands of f32: the same to a few times what one is off.
        for (std::size_t i = 0; i < fused.grads.size(); ++i)
          CHECK(reference::relative_error(fused.grads[i], apart.grads[i]) < 4 * tolerance(dtype));
        CHECK(fused.grads[2] == apart.grads[2]);
        CHECK(fused.grads[3] == apart.grads[3]);
        CHECK(reference::numbers(fused.norm.running_mean) == reference::numbers(apart.norm.running_mean));
        CHECK(reference::numbers(fused.norm.running_variance) ==
              reference::numbers(apart.norm.running_variance));
      }
    }
  }
}

TEST_CASE("accumulators are kept in 16 bits when all of a batch fit", "[ops]") {
  // The last image alone decides: only its products are large.
  for (const int last : {1, 40}) {
    INFO("last image " << last);
    const Shape xs{33, 32, 32, 16};
    Tensor x = Tensor::empty(xs, DType::u8);
    x.set_fixed_point({.step = 1, .bits = 8});
    const std::int64_t image = x.numel() / xs[0];
    // Not the same twice: memory used again would hold the right numbers already.
    std::ranges::fill(x.mutable_span<std::uint8_t>(), static_cast<std::uint8_t>(last == 1 ? 1 : 2));
    std::fill_n(x.mutable_data<std::uint8_t>() + 32 * image, image, static_cast<std::uint8_t>(last));
    Tensor w = Tensor::empty({16, 16, 3, 3}, DType::s8);
    std::ranges::fill(w.mutable_span<std::int8_t>(), std::int8_t{7});
    w.set_fixed_point({.step = 0.5f, .is_signed = true});
    const ConvOptions options{.padding = 1};
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

TEST_CASE("every op takes its gradient in f32 and in bf16", "[ops]") {
  const FixedPoint input{.step = 1.0f / 64}, weights{.step = 1.0f / 128, .is_signed = true};
  const Tensor keep = reference::random_integers<std::uint8_t>({2, 4, 4, 3}, 9, 0, 1);
  const std::vector<std::int32_t> labels{1, 0};
  const auto norm_of = [](const Var& gamma, const Var& beta, const Var& bias) {
    NormState norm = norm_state(gamma, beta);
    norm.conv_bias = bias;
    return norm;
  };
  struct Row {
    const char* name;
    std::function<Var(Inputs)> op;
    std::vector<Shape> inputs;
  };
  const Shape image{2, 4, 4, 3}, filter{5, 3, 3, 3};
  const Row rows[] = {
      {"conv2d", [](Inputs in) { return conv2d(in[0], in[1], {.padding = 1}); }, {image, filter}},
      {"conv2d_integer",
       [&](Inputs in) {
         return conv2d_integer(quantize(in[0], input), in[1], quantized_weights(in[1].value(), weights),
                               {.padding = 1}, Engine::integer, DType::f32);
       },
       {image, filter}},
      {"linear", [](Inputs in) { return linear(in[0], in[1], in[2]); }, {{2, 7}, {5, 7}, {5}}},
      {"linear_integer",
       [&](Inputs in) {
         return linear_integer(quantize(in[0], input), in[1], quantized_weights(in[1].value(), weights),
                               in[2], Engine::integer, DType::f32);
       },
       {{2, 7}, {5, 7}, {5}}},
      {"norm_act",
       [&](Inputs in) {
         NormState norm = norm_of(in[1], in[2], in[3]);
         return norm_act(in[0], norm, in[4], {.format = {}, .training = false});
       },
       {image, {3}, {3}, {3}, image}},
      {"conv_norm_act_integer",
       [&](Inputs in) {
         NormState norm = norm_of(in[2], in[3], in[4]);
         return conv_norm_act_integer(quantize(in[0], input), in[1],
                                      quantized_weights(in[1].value(), weights), norm, {}, {.padding = 1},
                                      Engine::integer, DType::f32, {.format = {}});
       },
       {image, filter, {5}, {5}, {5}}},
      {"global_avg_pool", [](Inputs in) { return global_avg_pool(in[0]); }, {image}},
      {"max_pool", [](Inputs in) { return max_pool(in[0], {}); }, {image}},
      {"avg_pool", [](Inputs in) { return avg_pool(in[0], {}); }, {image}},
      {"concat_channels", [](Inputs in) { return concat_channels(in); }, {image, image}},
      {"dropout", [&](Inputs in) { return dropout(in[0], keep, 0.5f); }, {image}},
      {"reshape",
       [](Inputs in) {
         return reshape(in[0], {6, 16});
       },
       {image}},
      {"straight_through", [](Inputs in) { return straight_through(in[0], in[0].value()); }, {image}},
      {"to_float", [&](Inputs in) { return to_float(quantize(in[0], input)); }, {image}},
      {"subsample_and_pad", [](Inputs in) { return subsample_and_pad(in[0], 2, 5); }, {image}},
      {"quantize", [&](Inputs in) { return quantize(in[0], input); }, {image}},
      {"relu", [](Inputs in) { return relu(in[0]); }, {image}},
      {"tanh", [](Inputs in) { return tanh(in[0]); }, {image}},
      {"add", [](Inputs in) { return add(in[0], in[1]); }, {image, image}},
      {"scale", [](Inputs in) { return scale(in[0], 0.4f); }, {image}},
      {"cross_entropy", [&](Inputs in) { return cross_entropy(in[0], labels); }, {{2, 4}}},
      {"kl_divergence",
       [](Inputs in) {
         return kl_divergence(in[0], Tensor::zeros({2, 4}));
       },
       {{2, 4}}},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const auto gradients = [&](DType dtype) {
      std::vector<Var> inputs;
      for (std::size_t i = 0; i < row.inputs.size(); ++i)
        inputs.emplace_back(reference::random(row.inputs[i], 10 + i), true);
      const Var y = row.op(inputs);
      // The same numbers, whatever they are stored in.
      backward(y, kernels::convert(gradient(y.shape(), 20, DType::bf16), dtype));
      return inputs;
    };
    const std::vector<Var> f32 = gradients(DType::f32), bf16 = gradients(DType::bf16);
    for (std::size_t i = 0; i < f32.size(); ++i) {
      INFO("input " << i);
      REQUIRE(f32[i].grad().defined());
      REQUIRE(bf16[i].grad().defined());
      CHECK(reference::relative_error(bf16[i].grad(), reference::numbers(f32[i].grad())) < 1.0 / 128);
    }
  }
}

TEST_CASE("no images: nothing, or an error", "[ops]") {
  const Shape none{0, 4, 4, 3};
  const std::function<Var(const Var&)> ops[] = {[](const Var& x) { return relu(x); },
                                                [](const Var& x) { return max_pool(x, {}); },
                                                [](const Var& x) { return avg_pool(x, {}); },
                                                [](const Var& x) { return global_avg_pool(x); },
                                                [](const Var& x) { return subsample_and_pad(x, 2, 5); },
                                                [](const Var& x) {
                                                  NormState norm = norm_state(Var(Tensor::full({3}, 1), true),
                                                                              Var(Tensor::zeros({3}), true));
                                                  return norm_act(x, norm, {}, {.training = false});
                                                }};
  for (const auto& op : ops) {
    const Var x(Tensor::empty(none), true);
    const Var y = op(x);
    CHECK(y.shape()[0] == 0);
    backward(y, Tensor::empty(y.shape()));
    CHECK(x.grad().shape() == none);
  }
  Tensor values = Tensor::empty(none, DType::u8), q = Tensor::zeros({5, 3, 3, 3}, DType::s8);
  values.set_fixed_point({});
  q.set_fixed_point({.is_signed = true});
  NormState norm = norm_state(Var(Tensor::full({5}, 1), true), Var(Tensor::zeros({5}), true));
  const Var x(values, true), w(Tensor::zeros({5, 3, 3, 3}), true);
  const auto unit = [&](bool training) {
    return conv_norm_act_integer(x, w, q, norm, {}, {.padding = 1}, Engine::integer, DType::f32,
                                 {.format = FixedPoint{}, .training = training});
  };
  CHECK(unit(false).shape() == Shape{0, 4, 4, 5});
  CHECK_THROWS_WITH(backward(unit(false), Tensor::empty({0, 4, 4, 5})), Catch::Contains("no images"));
  CHECK_THROWS_AS(unit(true), Error);
  CHECK_THROWS_AS(cross_entropy(Var(Tensor::empty({0, 3})), {}), Error);
}

TEST_CASE("operations refuse what does not fit together", "[ops]") {
  const Var x(Tensor::zeros({2, 3})), w(Tensor::zeros({4, 3})), b(Tensor::zeros({4}));
  CHECK_THROWS_WITH(linear(x, Var(Tensor::zeros({4, 2})), b),
                    Catch::Contains("[2, 3]") && Catch::Contains("[4, 2]"));
  CHECK_THROWS_WITH(linear(x, w, Var(Tensor::zeros({3}))), Catch::Contains("bias [3]"));
  CHECK_THROWS_WITH(linear_integer(x, w, Tensor::zeros({4, 3}), b, Engine::integer, DType::f32),
                    Catch::Contains("f32"));
  const Var image(Tensor::zeros({1, 2, 2, 3}, DType::u8)), filter(Tensor::zeros({1, 3, 1, 1}));
  Tensor q = Tensor::zeros({1, 3, 1, 1}, DType::s8);
  q.set_fixed_point({.is_signed = true});
  CHECK_THROWS_WITH(conv2d_integer(image, filter, q, {}, Engine::integer, DType::f32),
                    Catch::Contains("no step"));
  CHECK_THROWS_AS(
      conv2d_integer(image, filter, Tensor::zeros({1, 3, 3, 3}, DType::s8), {}, Engine::integer, DType::f32),
      Error);
  NormState norm{Var(Tensor::zeros({2})), Var(Tensor::zeros({2})), Tensor::zeros({2}), Tensor::zeros({2})};
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 2, 2, 3})), norm, {}, {}), Catch::Contains("3 channels"));
  // One value would do for none but one channel: memory behind it is not ours.
  for (const bool training : {true, false}) {
    const auto refused = [&](const char* what, auto shorten) {
      NormState short_of = norm;
      shorten(short_of);
      CHECK_THROWS_WITH(
          norm_act(Var(Tensor::zeros({1, 2, 2, 2})), short_of, {}, {.format = {}, .training = training}),
          Catch::Contains(std::string("2 channels, ") + what + " has 1 values"));
    };
    refused("gamma", [](NormState& n) { n.gamma = Var(Tensor::zeros({1})); });
    refused("beta", [](NormState& n) { n.beta = Var(Tensor::zeros({1})); });
    refused("the running mean", [](NormState& n) { n.running_mean = Tensor::zeros({1}); });
    refused("the running variance", [](NormState& n) { n.running_variance = Tensor::zeros({1}); });
    refused("the convolution's bias", [](NormState& n) { n.conv_bias = Var(Tensor::zeros({1})); });
  }
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 1, 1, 2})), norm, {}, {}),
                    Catch::Contains("more than one value"));
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 2, 2, 2})), norm, Var(Tensor::zeros({1, 2, 2, 1})), {}),
                    Catch::Contains("residual"));
  CHECK_THROWS_AS(add(x, w), Error);
}
