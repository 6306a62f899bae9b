// Requantization: ties, limits, and what it refuses. kernels_norm_test.cpp compares it with exact arithmetic
// beside the normalisation of training.
#include "core/kernels/conv.h"
#include "core/kernels/requantizer.h"
#include "core/kernels/unit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::Requantize;

TEST_CASE("requantize rounds what double would take for a tie", "[requantize]") {
  struct Row {
    std::int32_t sum;
    float multiplier, bias;
    std::int8_t residual;
    float factor;
    int expected;
  };
  const Row rows[] = {{1, 0x1p-60f, 0.5f, 0, 1, 1},
                      {-1, 0x1p-60f, 0.5f, 0, 1, 0},
                      {1, 0x1p-60f, 1.5f, 0, 1, 2},
                      {-1, 0x1p-60f, 1.5f, 0, 1, 1},
                      {0, 0x1p-60f, 2.5f, 0, 1, 2},
                      {0, 0x1p-60f, 3.5f, 0, 1, 4},
                      {1, 0x1p-149f, -0.5f, 3, 1, 3},
                      {-1, 0x1p-149f, -0.5f, 3, 1, 2},
                      {0, 1, -0.5f, 3, 1, 2},
                      {0x7fffffff, 0x1.fffffep-60f, 7.5f, 0, 1, 8},
                      {-0x7fffffff, 0x1.fffffep-60f, 7.5f, 0, 1, 7},
                      {1 << 30, 1, -0x1p30f, 1, 0.75f, 1},
                      {1 << 30, 0x1p60f, -0x1p90f, 1, 0.75f, 1},
                      {1, -0x1p-70f, 255, 0, 1, 255},
                      {-1, 0x1p-70f, 0, 0, 1, 0},
                      {1, 0x1p-70f, 254.5f, 0, 1, 255}};
  for (const Row& row : rows) {
    INFO(row.sum << " * " << row.multiplier << " + " << row.bias << " + " << int{row.residual} << " * "
                 << row.factor);
    for (const std::int64_t channels : {1, 16, 37, 100}) {
      Tensor sums = Tensor::empty({1, 1, 1, channels}, DType::s32);
      std::ranges::fill(sums.mutable_span<std::int32_t>(), row.sum);
      Tensor residual = Tensor::empty({1, 1, 1, channels}, DType::s8, FixedPoint{1, 8, true});
      std::ranges::fill(residual.mutable_span<std::int8_t>(), row.residual);
      const Tensor q = kernels::requantize(sums, residual,
                                           {.multiplier = Tensor::full({channels}, row.multiplier),
                                            .bias = Tensor::full({channels}, row.bias),
                                            .residual_multiplier = row.factor,
                                            .activation = Activation::relu,
                                            .format = {1, 8, false}});
      for (const int v : q.span<std::uint8_t>()) CHECK(v == row.expected);
    }
  }
}

TEST_CASE("requantize trusts no f32 that has overflown", "[requantize]") {
  // 2.1e9·1e31 − 127·1e38: in f32 infinity minus infinity.
  for (const std::int64_t channels : {1, 16, 37, 100}) {
    Tensor acc = Tensor::empty({1, 1, 1, channels}, DType::s32);
    std::ranges::fill(acc.mutable_span<std::int32_t>(), 2100000000);
    Tensor residual = Tensor::empty({1, 1, 1, channels}, DType::s8, FixedPoint{1, 8, true});
    std::ranges::fill(residual.mutable_span<std::int8_t>(), static_cast<std::int8_t>(-127));
    const Tensor q = kernels::requantize(acc, residual,
                                         {.multiplier = Tensor::full({channels}, 1e31f),
                                          .bias = Tensor::zeros({channels}),
                                          .residual_multiplier = 1e38f,
                                          .activation = Activation::relu,
                                          .format = {1, 8, false}});
    for (const int v : q.span<std::uint8_t>()) CHECK(v == 255);
  }
}

TEST_CASE("requantize makes of what is no number the lowest integer", "[requantize]") {
  // Of a network that has diverged. Which integer it becomes says nothing, but it is the same everywhere.
  for (const bool in_multiplier : {true, false}) {
    Requantize params{Tensor::full({100}, 1.0f),
                      Tensor::zeros({100}),
                      0,
                      Activation::identity,
                      {.bits = 8, .is_signed = true}};
    Tensor& where = in_multiplier ? params.multiplier : params.bias;
    where = Tensor::full({100}, std::numeric_limits<float>::quiet_NaN());
    const Tensor q = kernels::requantize(Tensor::zeros({1, 100}, DType::s32), {}, params);
    for (const int v : q.span<std::int8_t>()) CHECK(v == -127);
  }
}

TEST_CASE("a tie among values that are none is rounded exactly", "[requantize]") {
  // 2½, and 2^−70 more or less, which no double tells from it, at one place alone.
  for (const std::int64_t channels : {40, 64, 128, 200}) {
    for (const std::int64_t place : {std::int64_t{0}, std::int64_t{17}, channels - 1}) {
      for (const int above : {-1, 0, 1}) {
        INFO(channels << " channels, a tie at " << place << ", " << above);
        Tensor sums = Tensor::empty({1, channels}, DType::s32);
        std::ranges::fill(sums.mutable_span<std::int32_t>(), 3);
        sums.mutable_data<std::int32_t>()[place] = 1;
        Tensor multiplier = Tensor::full({channels}, 1.25f), bias = Tensor::full({channels}, 0.125f);
        multiplier.mutable_data<float>()[place] = 2.5f;
        bias.mutable_data<float>()[place] = static_cast<float>(above) * 0x1p-70f;
        const Tensor q = kernels::requantize(sums, {}, {multiplier, bias, 0, Activation::relu, {.bits = 8}});
        for (std::int64_t i = 0; i < channels; ++i)
          CHECK(int{q.data<std::uint8_t>()[i]} == (i == place ? (above > 0 ? 3 : 2) : 4));
      }
    }
  }
}

TEST_CASE("requantize rounds ties to even and clips", "[requantize]") {
  const Tensor acc =
      Tensor::from<std::int32_t>({1, 9}, std::vector<std::int32_t>{-1000, -3, -1, 0, 1, 3, 5, 509, 1 << 30});
  const Requantize params{Tensor::full({9}, 0.5f), Tensor::zeros({9}), 0, {}, {}};
  struct Row {
    FixedPoint format;
    Activation activation;
    std::vector<int> expected;
  };
  const Row rows[] = {
      {{.bits = 8}, Activation::relu, {0, 0, 0, 0, 0, 2, 2, 254, 255}},
      {{.bits = 8}, Activation::identity, {0, 0, 0, 0, 0, 2, 2, 254, 255}},
      {{.bits = 4}, Activation::relu, {0, 0, 0, 0, 0, 2, 2, 15, 15}},
      {{.bits = 8, .is_signed = true}, Activation::identity, {-127, -2, 0, 0, 0, 2, 2, 127, 127}},
      {{.bits = 8, .is_signed = true}, Activation::relu, {0, 0, 0, 0, 0, 2, 2, 127, 127}},
      {{.bits = 4, .is_signed = true}, Activation::identity, {-7, -2, 0, 0, 0, 2, 2, 7, 7}},
      {{.scale = 0.5f, .bits = 8}, {0, 6}, {0, 0, 0, 0, 0, 2, 2, 12, 12}},
      {{.scale = 4, .bits = 8}, {0, 6}, {0, 0, 0, 0, 0, 2, 2, 2, 2}},
      {{.scale = 0.5f, .bits = 4}, {0, 8}, {0, 0, 0, 0, 0, 2, 2, 15, 15}},
      {{.bits = 8, .is_signed = true}, {-1, 1}, {-1, -1, 0, 0, 0, 1, 1, 1, 1}}};
  for (const Row& row : rows) {
    INFO(row.format << ", " << row.activation);
    Requantize p = params;
    p.format = row.format;
    p.activation = row.activation;
    CHECK(reference::elements<int>(kernels::requantize(acc, {}, p)) == row.expected);
  }
}

TEST_CASE("dequantize is correctly rounded", "[requantize]") {
  for (const Shape& shape : {Shape{3, 10}, {2, 1, 1, 17}, {1, 2, 2, 2100}}) {
    INFO(shape);
    const std::int64_t channels = shape[shape.rank() - 1];
    const Tensor acc = reference::random_integers<std::int32_t>(shape, 13, -2'000'000'000, 2'000'000'000);
    const Tensor multiplier = reference::random({channels}, 14, -1e-6, 1e-6),
                 bias = reference::random({channels}, 15, -10, 10);
    const Tensor y = kernels::dequantize(acc, multiplier, bias);
    for (std::int64_t i = 0; i < acc.numel(); ++i) {
      const long double exact =
          static_cast<long double>(acc.data<std::int32_t>()[i]) * multiplier.data<float>()[i % channels] +
          bias.data<float>()[i % channels];
      if (y.data<float>()[i] != static_cast<float>(exact)) {
        // Rounding twice, through double, can only differ next to a tie of f32.
        CHECK(std::abs(y.data<float>()[i] - exact) < 0.5000001L * std::abs(exact) * 0x1p-23L);
      }
    }
  }
}

TEST_CASE("requantization refuses what does not fit together", "[requantize]") {
  const Tensor v3 = Tensor::zeros({3}), v2 = Tensor::zeros({2});
  const Tensor x = Tensor::zeros({1, 2, 2, 3}), acc = Tensor::zeros({1, 2, 2, 3}, DType::s32);
  CHECK_THROWS_WITH(kernels::requantize(acc, {}, {v2, v3, 0, Activation::relu, {}}),
                    Catch::Contains("multiplier"));
  CHECK_THROWS_WITH(kernels::requantize(acc, {}, {v3, v2, 0, Activation::relu, {}}), Catch::Contains("bias"));
  CHECK_THROWS_WITH(
      kernels::requantize(acc, Tensor::zeros({1, 2, 2, 1}, DType::u8), {v3, v3, 0, Activation::relu, {}}),
      Catch::Contains("residual"));
  CHECK_THROWS_AS(kernels::requantize(x, {}, {v3, v3, 0, Activation::relu, {}}), Error);
  const kernels::Requantizer of_three({v3, v3, 0, Activation::relu, {}}, 3);
  Tensor out = Tensor::empty({1, 2, 2, 2}, DType::u8);
  CHECK_THROWS_WITH(of_three(Tensor::zeros({1, 2, 2, 2}, DType::s32), {}, out),
                    Catch::Contains("3 multipliers for"));
  CHECK_THROWS_WITH(kernels::dequantize(acc, v2, v3), Catch::Contains("multiplier"));
}

TEST_CASE("requantize does the same by blocks of channels and rows", "[requantize][isa]") {
  struct Row {
    std::int64_t rows, channels, first, some;  ///< `some` channels from `first` on
  };
  // More rows than factors are repeated for, whole rows, and channels of all widths.
  const Row rows[] = {{300, 20, 0, 20}, {500, 16, 0, 16}, {40, 64, 0, 64}, {9, 200, 64, 64},
                      {7, 200, 192, 8}, {5, 150, 3, 100}, {3, 37, 36, 1}};
  for (const Row& row : rows) {
    for (const float factor : {0.37f, 1e38f}) {  // with the second one, f32 would subtract infinities
      INFO(row.rows << " rows, channels " << row.first << " to " << row.first + row.some << " of "
                    << row.channels << ", " << factor);
      const Shape shape{row.rows, row.channels};
      const Tensor sums = reference::random_integers<std::int32_t>(shape, 1, -90000, 90000);
      const Tensor residual = reference::random_integers<std::int8_t>(shape, 2, -127, 127);
      const Requantize params{reference::random({row.channels}, 3, factor / 5000, factor / 500),
                              reference::random({row.channels}, 4, -9, 99),
                              factor,
                              Activation::relu,
                              {.bits = 8}};
      const Tensor whole = kernels::requantize(sums, residual, params);
      Tensor out = Tensor::zeros(shape, DType::u8);
      const kernels::Requantizer requantizer(params, row.channels);
      requantizer({.sums = sums.data<std::int32_t>() + row.first,
                   .stride = row.channels,
                   .first_row = 0,
                   .rows = row.rows,
                   .first_channel = row.first,
                   .channels = row.some},
                  requantizer.places(shape, residual, out));
      int wrong = 0;
      for (std::int64_t i = 0; i < sums.numel(); ++i) {
        const bool is_done = i % row.channels >= row.first && i % row.channels < row.first + row.some;
        wrong += out.data<std::uint8_t>()[i] != (is_done ? whole.data<std::uint8_t>()[i] : 0);
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("slices of deployed convolutions change no integer", "[requantize][isa]") {
  const Tensor x = reference::random_integers<std::uint8_t>({3, 50, 32, 16}, 1, 0, 255);
  const Tensor w = reference::random_integers<std::int8_t>({256, 16, 1, 1}, 2, -127, 127);
  const Tensor residual = reference::random_integers<std::uint8_t>({3, 50, 32, 256}, 3, 0, 255);
  const Requantize params{
      Tensor::full({256}, 0.001f), Tensor::full({256}, 3.25f), 0.5f, Activation::relu, {.bits = 8}};
  for (const Engine engine : {Engine::integer, Engine::simulated}) {
    Tensor whole = Tensor::empty(residual.shape(), DType::u8),
           sliced = Tensor::empty(residual.shape(), DType::u8);
    kernels::Requantizer(params, 256)(kernels::conv2d_integer(x, w, {}, engine), residual, whole);
    kernels::conv2d_requantize(x, kernels::PackedWeights(w), {}, engine, residual, params, sliced, nullptr);
    CHECK(reference::same_bytes(whole, sliced));
  }
}
