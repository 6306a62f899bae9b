#include "core/ops.h"

#include "tests/catch.h"
#include "tests/gradcheck.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

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
      integer(reference::random_fixed_point({2, 5, 6, 3}, 1, {.scale = 0.5f, .is_signed = true}), true);
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

  const Var integers(reference::random_fixed_point({2, 3}, 1, {.scale = 0.25f}), true);
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
  for (const GradFormat& grads : gradient_formats()) {
    const Var x(reference::random_fixed_point({3, 50}, 2, {.scale = 0.25f}), true);
    const Var y = dropout(x, keep, 0.5f);
    CHECK(y.value().dtype() == DType::u8);
    CHECK(y.value().fixed_point() == FixedPoint{.scale = 0.5f});
    const Tensor dy = gradient({3, 50}, 3, grads.dtype());
    backward(y, dy);
    CHECK(x.grad().dtype() == grads.dtype());
    const auto in = reference::numbers(x.value()), out = reference::numbers(y.value()),
               din = reference::numbers(x.grad()), dout = reference::numbers(dy);
    for (std::size_t i = 0; i < kept.size(); ++i) {
      CHECK(out[i] == 2 * kept[i] * in[i]);
      CHECK(din[i] == 2 * kept[i] * dout[i]);
    }
  }
  const Var integers(reference::random_fixed_point({3, 50}, 2, {.scale = 0.25f}));
  // The integers stay what they are; the factor is one of their scale, which may be no power of two.
  const Tensor fifth = dropout(integers, keep, 0.2f).value();
  CHECK(fifth.fixed_point() == FixedPoint{.scale = 0.25f * (1.0f / (1.0f - 0.2f))});
  const std::vector<double> before = reference::elements<double>(integers.value()),
                            after = reference::elements<double>(fifth);
  for (std::size_t i = 0; i < kept.size(); ++i) CHECK(after[i] == kept[i] * before[i]);
  CHECK_THROWS_AS(dropout(integers, Tensor::zeros({3, 49}, DType::u8), 0.5f), Error);
  CHECK_THROWS_AS(dropout(integers, keep, 1.0f), Error);
}

TEST_CASE("flatten: the values of an image by channel, row and column", "[ops]") {
  gradcheck([](Inputs in) { return flatten(in[0]); }, {{2, 3, 4, 5}});
  for (const Shape& shape : {Shape{2, 3, 4, 5}, Shape{1, 2, 2, 130}}) {
    const Var x(reference::random_fixed_point(shape, 1, {.scale = 0.5f, .bits = 4}));
    const Tensor y = flatten(x).value();
    CHECK(y.shape() == Shape{shape[0], 1, 1, shape[1] * shape[2] * shape[3]});
    CHECK(y.fixed_point() == x.value().fixed_point());
    const auto in = reference::elements<int>(x.value()), out = reference::elements<int>(y);
    std::size_t i = 0;
    for (std::int64_t n = 0; n < shape[0]; ++n)
      for (std::int64_t c = 0; c < shape[3]; ++c)
        for (std::int64_t pixel = 0; pixel < shape[1] * shape[2]; ++pixel)
          CHECK(out[i++] == in[static_cast<std::size_t>((n * shape[1] * shape[2] + pixel) * shape[3] + c)]);
  }
  CHECK_THROWS_AS(flatten(Var(Tensor::zeros({2, 3}))), Error);
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

TEST_CASE("relu and tanh take integers as the numbers they stand for", "[ops]") {
  const Tensor x =
      reference::random_fixed_point({2, 3, 3, 4}, 5, {.scale = 0.5f, .bits = 8, .is_signed = true});
  const Var real = to_float(Var(x));
  CHECK(reference::same_bytes(relu(Var(x)).value(), relu(real).value()));
  CHECK(reference::same_bytes(tanh(Var(x)).value(), tanh(real).value()));
  CHECK(relu(Var(x)).value().dtype() == DType::f32);
}

TEST_CASE("cross_entropy gradient", "[ops]") {
  const std::vector<std::int32_t> labels{2, 0, 6, 3};
  for (float smoothing : {0.0f, 0.1f, 0.5f}) {
    INFO("smoothing " << smoothing);
    gradcheck([&](Inputs in) { return cross_entropy(in[0], labels, smoothing); }, {{4, 7}}, {.scales = {3}});
  }
}

TEST_CASE("quantize: straight-through gradient", "[ops]") {
  const FixedPoint formats[] = {{.scale = 0.25f, .bits = 4},
                                {.scale = 1.0f / 64, .bits = 8},
                                {.scale = 0.125f, .bits = 4, .is_signed = true}};
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
        const double q = values[i] / format.scale;
        if (q < format.min() || q > format.max()) expected[i] = 0, ++clipped;
      }
      CHECK(clipped > 10);
      CHECK(clipped < x.numel() - 10);
      CHECK(input.grad().dtype() == dtype);
      CHECK(reference::numbers(input.grad()) == expected);
    }
  }
}

TEST_CASE("global average of integers is exact", "[ops]") {
  const FixedPoint format{.scale = 0.5f};
  const Var x(reference::random_fixed_point({2, 4, 4, 3}, 1, format), true);
  const Var y = global_avg_pool(x);
  CHECK(y.value().dtype() == DType::s32);
  CHECK(y.value().fixed_point().scale == 0.5f / 16);
  std::vector<double> expected(6);
  const std::vector<double> values = reference::numbers(x.value());
  for (std::size_t i = 0; i < values.size(); ++i) expected[i / 48 * 3 + i % 3] += values[i] / 16;
  CHECK(reference::numbers(y.value()) == expected);
  backward(y, Tensor::full({2, 3}, 16));
  CHECK(reference::numbers(x.grad()) == std::vector<double>(96, 1.0));
}
