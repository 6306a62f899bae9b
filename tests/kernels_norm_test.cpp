#include "core/kernels/norm.h"

#include <cmath>
#include <functional>
#include <limits>

#include "core/kernels/requantizer.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::ChannelStatistics;
using kernels::NormActParams;
using kernels::Requantize;

namespace {

struct NormActGrads {
  Tensor dx, dresidual, dgamma, dbeta;
};

// In pieces, as the fused unit asks for it.
NormActGrads norm_act_backward(const Tensor& dy, const Tensor& x, const NormActParams& params,
                               const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                               bool batch_statistics, bool want_dresidual) {
  const kernels::NormActBackward pass(dy, x, params, statistics, gamma, eps,
                                      {.batch_statistics = batch_statistics});
  NormActGrads grads{Tensor::empty(dy.shape(), dy.dtype()), {}, pass.dgamma(), pass.dbeta()};
  want_dresidual = want_dresidual && params.residual;
  if (want_dresidual) grads.dresidual = Tensor::empty(dy.shape(), dy.dtype());
  const std::int64_t middle = dy.dim(0) / 2;
  for (const auto& [first, last] : {std::pair{std::int64_t{0}, middle}, {middle, dy.dim(0)}}) {
    Tensor dx = grads.dx.rows(first, last);
    Tensor dresidual = want_dresidual ? grads.dresidual.rows(first, last) : Tensor();
    pass.apply(first, last, dx, dresidual);
  }
  return grads;
}

// Below, at and above the length of a block and of a chunk; channels that divide a block and ones that do
// not.
const Shape shapes[] = {{1, 3, 2, 1},   {2, 3, 5, 3},    {1, 7, 7, 16},   {2, 9, 8, 17},   {1, 17, 16, 64},
                        {1, 4, 4, 512}, {1, 2, 3, 2048}, {1, 2, 2, 2100}, {2, 5, 5, 1000}, {1, 100, 170, 2}};

Tensor accumulators(const Shape& shape, std::uint64_t salt, std::int64_t largest, float step) {
  Tensor x = reference::random_integers<std::int32_t>(shape, salt, -largest, largest);
  x.set_fixed_point({.scale = step, .bits = 32, .is_signed = true});
  return x;
}

struct Threads {
  explicit Threads(int n) { set_num_threads(n); }
  ~Threads() { set_num_threads(0); }
};

struct Moments {
  std::vector<double> mean, variance;
};

Moments moments(const std::vector<double>& x, std::size_t channels) {
  Moments m{std::vector<double>(channels), std::vector<double>(channels)};
  const double rows = static_cast<double>(x.size() / channels);
  for (std::size_t i = 0; i < x.size(); ++i) m.mean[i % channels] += x[i];
  for (double& mean : m.mean) mean /= rows;
  for (std::size_t i = 0; i < x.size(); ++i)
    m.variance[i % channels] += std::pow(x[i] - m.mean[i % channels], 2);
  for (double& variance : m.variance) variance /= rows;
  return m;
}

// z = x·scale + shift + residual
std::vector<double> pre_activation(const Tensor& x, const NormActParams& params) {
  std::vector<double> z = reference::numbers(x);
  const std::vector<double> scale = reference::numbers(params.scale),
                            shift = reference::numbers(params.shift);
  const std::vector<double> residual =
      params.residual ? reference::numbers(params.residual) : std::vector<double>(z.size());
  for (std::size_t i = 0; i < z.size(); ++i)
    z[i] = z[i] * scale[i % scale.size()] + shift[i % scale.size()] + residual[i];
  return z;
}

NormActParams affine(std::int64_t channels, const Tensor& residual, bool relu,
                     const std::optional<FixedPoint>& format) {
  return {reference::random({channels}, 60, 0.5, 1.5), reference::random({channels}, 61, -0.5, 0.5), residual,
          relu ? Activation::relu : Activation::identity, format};
}

struct Residual {
  const char* name;
  std::function<Tensor(const Shape&)> make;
};
const Residual residuals[] = {
    {"none", [](const Shape&) { return Tensor(); }},
    {"f32", [](const Shape& s) { return reference::random(s, 70); }},
    {"bf16", [](const Shape& s) { return kernels::convert(reference::random(s, 71), DType::bf16); }},
    {"u8", [](const Shape& s) { return reference::random_fixed_point(s, 72, {.scale = 1.0f / 128}); }},
    {"s8", [](const Shape& s) {
       return reference::random_fixed_point(s, 73, {.scale = 1.0f / 64, .is_signed = true});
     }}};

const std::optional<FixedPoint> formats[] = {std::nullopt, FixedPoint{.scale = 1.0f / 128},
                                             FixedPoint{.scale = 1.0f / 8, .bits = 4},
                                             FixedPoint{.scale = 1.0f / 64, .is_signed = true},
                                             FixedPoint{.scale = 1.0f / 4, .bits = 4, .is_signed = true}};

std::string name_of(const std::optional<FixedPoint>& format) { return format ? concat(*format) : "f32"; }

double distance_to_tie(double x) { return std::abs(std::remainder(x - 0.5, 1.0)); }

// Compares integers with unrounded values: all equal, but that within `near` of a tie one level is allowed.
// Returns how many were.
int check_levels(const Tensor& q, const std::vector<double>& unrounded, double low, double high,
                 double near) {
  const std::vector<double> levels = reference::elements<double>(q);
  REQUIRE(levels.size() == unrounded.size());
  int off = 0, wrong = 0;
  for (std::size_t i = 0; i < levels.size(); ++i) {
    const double expected = std::clamp(std::nearbyint(unrounded[i]), low, high);
    if (levels[i] == expected) continue;
    const bool excused = std::abs(levels[i] - expected) == 1 && distance_to_tie(unrounded[i]) < near;
    ++(excused ? off : wrong);
  }
  CHECK(wrong == 0);
  return off;
}

}  // namespace

TEST_CASE("channel statistics against double", "[norm]") {
  struct Row {
    const char* name;
    double mean, spread;
    double first;      ///< what the first pixel is off by
    double tolerance;  ///< of the variance
  };
  for (const Row& row : {Row{"centred", 0, 1, 0, 3e-6}, Row{"one-sided", 3, 1, 0, 3e-6},
                         Row{"large mean", 1e3, 1, 0, 3e-6}, Row{"larger mean", -3e4, 1, 0, 3e-6},
                         Row{"tiny", 1e-6, 1e-6, 0, 3e-6}, Row{"first pixel far out", 0, 1, 1e3, 1e-4}}) {
    for (const Shape& shape : shapes) {
      INFO(row.name << " " << shape);
      Tensor x = reference::random(shape, 1, row.mean - row.spread, row.mean + row.spread);
      for (float& value : x.mutable_span<float>().first(static_cast<std::size_t>(shape[3])))
        value += static_cast<float>(row.first);
      const ChannelStatistics s = kernels::channel_statistics(x);
      const Moments expected = moments(reference::numbers(x), static_cast<std::size_t>(shape[3]));
      // f32 sums of up to 64 values; a centred mean is small beside them.
      CHECK(reference::relative_error(s.mean, expected.mean) < (row.first == 0 ? 2e-6 : row.tolerance));
      CHECK(reference::relative_error(s.variance, expected.variance) < row.tolerance);
    }
  }
}

TEST_CASE("channel statistics of accumulators", "[norm]") {
  for (const Shape& shape : shapes) {
    INFO(shape);
    const Tensor x = accumulators(shape, 2, 20'000'000, 1.0f / (1 << 20));
    const ChannelStatistics s = kernels::channel_statistics(x);
    const Moments expected = moments(reference::numbers(x), static_cast<std::size_t>(shape[3]));
    CHECK(reference::relative_error(s.mean, expected.mean) < 1e-5);
    CHECK(reference::relative_error(s.variance, expected.variance) < 1e-5);
  }
}

TEST_CASE("a constant channel has its value and variance zero", "[norm]") {
  for (float value : {0.0f, 0.1f, -1e6f}) {
    const ChannelStatistics s = kernels::channel_statistics(Tensor::full({2, 31, 17, 24}, value));
    for (int c = 0; c < 24; ++c) {
      CHECK(s.mean.data<float>()[c] == Approx(value).epsilon(1e-6));
      CHECK(s.variance.data<float>()[c] >= 0);
      CHECK(s.variance.data<float>()[c] <= std::pow(1e-6 * value, 2));
    }
  }
  CHECK_THROWS_AS(kernels::channel_statistics(Tensor::zeros({0, 2, 2, 3})), Error);
}

TEST_CASE("norm_act against double", "[norm]") {
  for (const Shape& shape : shapes) {
    for (const Residual& residual : residuals) {
      for (bool relu : {true, false}) {
        for (const auto& format : formats) {
          for (bool integer : {true, false}) {
            INFO(shape << ", residual " << residual.name << ", relu " << relu << ", " << name_of(format)
                       << ", integer " << integer);
            const Tensor x = integer ? accumulators(shape, 3, 1 << 16, 1.0f / (1 << 15))
                                     : reference::random(shape, 4, -2, 2);
            const NormActParams params = affine(shape[3], residual.make(shape), relu, format);
            const Tensor y = kernels::norm_act(x, params);
            std::vector<double> z = pre_activation(x, params);
            if (relu) std::ranges::transform(z, z.begin(), [](double v) { return std::max(v, 0.0); });
            if (format) {
              CHECK(y.fixed_point() == *format);
              CHECK(y.dtype() == (format->is_signed ? DType::s8 : DType::u8));
              for (double& v : z) v /= format->scale;
              // Computed in f32: 2^-23 of the largest level.
              CHECK(check_levels(y, z, format->min(), format->max(), 1e-4) <= 1 + shape.numel() / 10000);
            } else {
              CHECK(y.dtype() == DType::f32);
              CHECK(reference::relative_error(y, z) < 3e-7);
            }
          }
        }
      }
    }
  }
}

TEST_CASE("norm_act rounds half to even and clips", "[norm]") {
  const Tensor x = Tensor::from({1, 12}, {-9, -0.5, 0, 0.25, 0.75, 1.25, 1.75, 7.25, 7.5, 7.75, 8, 1e9});
  const NormActParams params{
      Tensor::full({12}, 1), Tensor::zeros({12}), {}, Activation::relu, FixedPoint{.scale = 0.5f, .bits = 4}};
  CHECK(reference::elements<int>(kernels::norm_act(x, params)) ==
        std::vector<int>{0, 0, 0, 0, 2, 2, 4, 14, 15, 15, 15, 15});
  NormActParams is_signed = params;
  is_signed.activation = Activation::identity;
  is_signed.format = FixedPoint{.scale = 0.5f, .bits = 4, .is_signed = true};
  CHECK(reference::elements<int>(kernels::norm_act(x, is_signed)) ==
        std::vector<int>{-7, -1, 0, 0, 2, 2, 4, 7, 7, 7, 7, 7});
}

TEST_CASE("norm_act_backward against double", "[norm]") {
  for (const Shape& shape : shapes) {
    for (const Residual& residual : residuals) {
      for (bool batch : {true, false}) {
        for (const auto& format : formats) {
          for (DType dtype : {DType::f32, DType::bf16}) {
            const bool relu = !format || !format->is_signed;
            const bool integer = dtype == DType::bf16;
            INFO(shape << ", residual " << residual.name << ", batch statistics " << batch << ", "
                       << name_of(format) << ", " << dtype);
            const auto channels = static_cast<std::size_t>(shape[3]);
            const Tensor x = integer ? accumulators(shape, 3, 1 << 16, 1.0f / (1 << 15))
                                     : reference::random(shape, 4, -2, 2);
            const std::vector<double> xd = reference::numbers(x);
            // Any statistics and parameters will do, as long as scale is γ/σ.
            const float eps = 1e-3f;
            ChannelStatistics s = kernels::channel_statistics(x);
            if (!batch) s = {reference::random({shape[3]}, 5), reference::random({shape[3]}, 6, 0.5, 2)};
            const Tensor gamma = reference::random({shape[3]}, 7, 0.5, 1.5);
            NormActParams params = affine(shape[3], residual.make(shape), relu, format);
            for (std::size_t c = 0; c < channels; ++c) {
              params.scale.mutable_data<float>()[c] =
                  gamma.data<float>()[c] / std::sqrt(s.variance.data<float>()[c] + eps);
            }
            const std::vector<double> z = pre_activation(x, params);
            const double high = format ? static_cast<double>(format->max()) * format->scale : INFINITY;
            const double low = relu     ? 0
                               : format ? static_cast<double>(format->min()) * format->scale
                                        : -INFINITY;
            Tensor dy = reference::random(shape, 8);
            for (std::size_t i = 0; i < z.size();
                 ++i) {  // where f32 might decide otherwise, nothing depends on it
              if (std::abs(z[i] - low) < 1e-5 || std::abs(z[i] - high) < 1e-5)
                dy.mutable_data<float>()[i] = 0;
            }
            dy = kernels::convert(dy, dtype);

            const std::vector<double> mean = reference::numbers(s.mean),
                                      variance = reference::numbers(s.variance);
            const double rows = static_cast<double>(xd.size() / channels);
            std::vector<double> dz = reference::numbers(dy), dbeta(channels), dgamma(channels), dx(xd.size());
            std::vector<double> xhat(xd.size());
            for (std::size_t i = 0; i < xd.size(); ++i) {
              const std::size_t c = i % channels;
              if (z[i] <= low || z[i] > high) dz[i] = 0;
              xhat[i] = (xd[i] - mean[c]) / std::sqrt(variance[c] + eps);
              dbeta[c] += dz[i];
              dgamma[c] += dz[i] * xhat[i];
            }
            for (std::size_t i = 0; i < xd.size(); ++i) {
              const std::size_t c = i % channels;
              const double through = batch ? dbeta[c] / rows + xhat[i] * dgamma[c] / rows : 0;
              dx[i] = gamma.data<float>()[c] / std::sqrt(variance[c] + eps) * (dz[i] - through);
            }

            const NormActGrads g = norm_act_backward(dy, x, params, s, gamma, eps, batch, true);
            const double rounding = dtype == DType::bf16 ? 1.0 / 256 : 2e-6;
            CHECK(g.dx.dtype() == dtype);
            CHECK(reference::relative_error(g.dx, dx) < rounding);
            CHECK(reference::relative_error(g.dgamma, dgamma) < 1e-5);
            CHECK(reference::relative_error(g.dbeta, dbeta) < 1e-5);
            CHECK(g.dresidual.defined() == params.residual.defined());
            if (g.dresidual) {
              CHECK(g.dresidual.dtype() == dtype);
              CHECK(reference::numbers(g.dresidual) == dz);  // masked, not rounded again
            }
            CHECK_FALSE(norm_act_backward(dy, x, params, s, gamma, eps, batch, false).dresidual.defined());
          }
        }
      }
    }
  }
}

TEST_CASE("norm_act reads integers of any dtype alike", "[norm]") {
  for (const Shape& shape : shapes) {
    for (bool is_signed : {true, false}) {
      const FixedPoint eight_bits{.scale = 1.0f / 64, .is_signed = is_signed};
      const Tensor narrow = reference::random_fixed_point(shape, 90, eight_bits);
      std::vector<Tensor> same{narrow, Tensor::empty(shape, DType::s16), Tensor::empty(shape, DType::s32)};
      const std::vector<int> values = reference::elements<int>(narrow);
      std::ranges::copy(values, same[1].mutable_data<std::int16_t>());
      std::ranges::copy(values, same[2].mutable_data<std::int32_t>());
      same[1].set_fixed_point({.scale = eight_bits.scale, .bits = 16, .is_signed = true});
      same[2].set_fixed_point({.scale = eight_bits.scale, .bits = 32, .is_signed = true});
      const Tensor gamma = reference::random({shape[3]}, 7, 0.5, 1.5);
      for (const auto& format : formats) {
        for (DType dtype : {DType::f32, DType::bf16}) {
          INFO(shape << ", " << narrow.dtype() << ", " << name_of(format) << ", " << dtype);
          const NormActParams params = affine(shape[3], {}, true, format);
          const Tensor dy = kernels::convert(reference::random(shape, 8), dtype);
          const ChannelStatistics s = kernels::channel_statistics(same[2]);
          const Tensor y = kernels::norm_act(same[2], params);
          const NormActGrads g = norm_act_backward(dy, same[2], params, s, gamma, 1e-3f, true, false);
          for (const Tensor& x : {same[0], same[1]}) {
            CHECK(reference::numbers(kernels::norm_act(x, params)) == reference::numbers(y));
            const NormActGrads of_x = norm_act_backward(dy, x, params, s, gamma, 1e-3f, true, false);
            CHECK(reference::numbers(of_x.dx) == reference::numbers(g.dx));
            CHECK(reference::numbers(of_x.dgamma) == reference::numbers(g.dgamma));
            CHECK(reference::numbers(of_x.dbeta) == reference::numbers(g.dbeta));
          }
        }
      }
    }
  }
}

TEST_CASE("norm_act_backward adds to a gradient before it rounds", "[norm]") {
  for (const Shape& shape : shapes) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      INFO(shape << ", " << dtype);
      const Tensor x = accumulators(shape, 3, 1 << 16, 1.0f / (1 << 15));
      const ChannelStatistics s = kernels::channel_statistics(x);
      const Tensor gamma = reference::random({shape[3]}, 7, 0.5, 1.5);
      const kernels::NormActBackward pass(kernels::convert(reference::random(shape, 8), dtype), x,
                                          affine(shape[3], {}, true, formats[2]), s, gamma, 1e-3f);
      Tensor none, dx = Tensor::empty(shape);
      pass.apply(0, shape[0], dx, none);
      Tensor sum = kernels::convert(reference::random(shape, 9), dtype);
      Tensor expected = kernels::convert(sum, DType::f32);
      kernels::add_in_place(expected, dx);
      pass.apply(0, shape[0], sum, none, true);
      CHECK(reference::numbers(sum) == reference::numbers(kernels::convert(expected, dtype)));
    }
  }
}

TEST_CASE("norm_act clips to the interval of the activation", "[norm]") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const Tensor x = Tensor::from({1, 6}, {-8, -0.5f, 0, 0.75f, 6, 9});
  struct Row {
    Activation activation;
    std::optional<FixedPoint> format;
    std::vector<double> expected;
  };
  const Row rows[] = {{Activation::identity, {}, {-8, -0.5, 0, 0.75, 6, 9}},
                      {Activation::relu, {}, {0, 0, 0, 0.75, 6, 9}},
                      {{0, 6}, {}, {0, 0, 0, 0.75, 6, 6}},
                      {{-0.25f, 0.5f}, {}, {-0.25, -0.25, 0, 0.5, 0.5, 0.5}},
                      {{0, 6}, FixedPoint{.scale = 0.5f}, {0, 0, 0, 1, 6, 6}},
                      {{0, 6}, FixedPoint{.scale = 0.25f, .bits = 4}, {0, 0, 0, 0.75, 3.75, 3.75}},
                      {{-1, 6}, FixedPoint{.scale = 0.25f, .is_signed = true}, {-1, -0.5, 0, 0.75, 6, 6}}};
  const Tensor one = Tensor::full({6}, 1), zero = Tensor::zeros({6});
  for (const Row& row : rows) {
    INFO(row.activation);
    CHECK(reference::numbers(kernels::norm_act(x, {one, zero, {}, row.activation, row.format})) ==
          row.expected);
    const Tensor lost = kernels::norm_act(Tensor::full({1, 6}, nan), {one, zero, {}, row.activation, {}});
    for (const float v : lost.span<float>()) CHECK(std::isnan(v));
  }
}

TEST_CASE("norm_act_backward: where exactly the gradient stops", "[norm]") {
  const float above = std::nextafter(7.5f, 8.0f), below = std::nextafter(0.0f, -1.0f),
              tiny = std::nextafter(0.0f, 1.0f);
  const std::vector<float> z{-1,   below, 0,    tiny,  0.25f,
                             7.5f, above, 7.6f, -3.5f, std::nextafter(-3.5f, -4.0f)};
  struct Row {
    const char* name;
    Activation activation;
    std::optional<FixedPoint> format;
    std::vector<double> passes;
  };
  const Row rows[] = {
      {"f32, no relu", Activation::identity, std::nullopt, {1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
      {"f32, relu", Activation::relu, std::nullopt, {0, 0, 0, 1, 1, 1, 1, 1, 0, 0}},
      {"u4, relu", Activation::relu, FixedPoint{.scale = 0.5f, .bits = 4}, {0, 0, 0, 1, 1, 1, 0, 0, 0, 0}},
      {"u4, no relu",
       Activation::identity,
       FixedPoint{.scale = 0.5f, .bits = 4},
       {0, 0, 0, 1, 1, 1, 0, 0, 0, 0}},
      {"s4, no relu",
       Activation::identity,
       FixedPoint{.scale = 0.5f, .bits = 4, .is_signed = true},
       {1, 1, 1, 1, 1, 0, 0, 0, 1, 0}},
      {"s4, relu",
       Activation::relu,
       FixedPoint{.scale = 0.5f, .bits = 4, .is_signed = true},
       {0, 0, 0, 1, 1, 0, 0, 0, 0, 0}},
      {"f32, clipped", {0, 7.5f}, std::nullopt, {0, 0, 0, 1, 1, 1, 0, 0, 0, 0}},
      {"u4, clipped below its range",
       {0, 7.0f},
       FixedPoint{.scale = 0.5f, .bits = 4},
       {0, 0, 0, 1, 1, 0, 0, 0, 0, 0}},
      {"s8, clipped on both sides",
       {-3.5f, 7.5f},
       FixedPoint{.scale = 0.5f, .bits = 8, .is_signed = true},
       {1, 1, 1, 1, 1, 1, 0, 0, 0, 0}},
  };
  const auto n = static_cast<std::int64_t>(z.size());
  const Tensor one = Tensor::full({n}, 1), zero = Tensor::zeros({n});
  for (const Row& row : rows) {
    INFO(row.name);
    const NormActParams params{one, zero, {}, row.activation, row.format};
    const NormActGrads g = norm_act_backward(Tensor::full({1, n}, 1), Tensor::from<float>({1, n}, z), params,
                                             {zero, one}, one, 0, false, false);
    CHECK(reference::numbers(g.dx) == row.passes);
    CHECK(reference::numbers(g.dbeta) == row.passes);
  }
}

TEST_CASE("normalisation does not depend on the number of threads", "[norm]") {
  for (const Shape& shape : shapes) {
    INFO(shape);
    const Tensor x = accumulators(shape, 3, 1 << 16, 1.0f / (1 << 15));
    const Tensor dy = kernels::convert(reference::random(shape, 8), DType::bf16);
    const NormActParams params =
        affine(shape[3], reference::random(shape, 9), true, FixedPoint{.scale = 1.0f / 128});
    const Tensor gamma = reference::random({shape[3]}, 7);
    struct Results {
      ChannelStatistics statistics;
      Tensor y;
      NormActGrads grads;
    };
    const auto run = [&](int threads) {
      const Threads scope(threads);
      const ChannelStatistics s = kernels::channel_statistics(x);
      return Results{s, kernels::norm_act(x, params),
                     norm_act_backward(dy, x, params, s, gamma, 1e-5f, true, true)};
    };
    const Results one = run(1);
    for (int threads : {2, 3}) {
      const Results many = run(threads);
      CHECK(reference::same_bytes(one.statistics.mean, many.statistics.mean));
      CHECK(reference::same_bytes(one.statistics.variance, many.statistics.variance));
      CHECK(reference::same_bytes(one.y, many.y));
      CHECK(reference::same_bytes(one.grads.dx, many.grads.dx));
      CHECK(reference::same_bytes(one.grads.dresidual, many.grads.dresidual));
      CHECK(reference::same_bytes(one.grads.dgamma, many.grads.dgamma));
      CHECK(reference::same_bytes(one.grads.dbeta, many.grads.dbeta));
    }
  }
}

TEST_CASE("requantize is correctly rounded", "[norm]") {
  int off = 0;
  for (const Shape& shape : shapes) {
    for (const Residual& residual : residuals) {
      const Tensor added = residual.make(shape);
      if (added && added.dtype() != DType::u8 && added.dtype() != DType::s8) continue;
      for (const auto& format : formats) {
        if (!format) continue;
        for (bool relu : {true, false}) {
          INFO(shape << ", residual " << residual.name << ", relu " << relu << ", " << *format);
          const Tensor acc = accumulators(shape, 10, 1 << 24, 1);
          const double largest = format->max() * 1.5 / (1 << 24);
          const Requantize params{reference::random({shape[3]}, 11, -largest, largest),
                                  reference::random({shape[3]}, 12, -3, 3), 0.37f,
                                  relu ? Activation::relu : Activation::identity, *format};
          const std::vector<double> a = reference::elements<double>(acc);
          const std::vector<double> r =
              added ? reference::elements<double>(added) : std::vector<double>(a.size());
          std::vector<double> unrounded(a.size());
          for (std::size_t i = 0; i < a.size(); ++i) {
            const std::size_t c = i % static_cast<std::size_t>(shape[3]);
            // long double holds each product exactly.
            unrounded[i] = static_cast<double>(
                static_cast<long double>(a[i]) * params.multiplier.data<float>()[c] +
                params.bias.data<float>()[c] + static_cast<long double>(r[i]) * params.residual_multiplier);
          }
          const Tensor q = kernels::requantize(acc, added, params);
          CHECK(q.fixed_point() == *format);
          off += check_levels(q, unrounded, relu ? std::max(0, format->min()) : format->min(), format->max(),
                              1e-6);
        }
      }
    }
  }
  CHECK(off == 0);
}

TEST_CASE("normalisation refuses what does not fit together", "[norm]") {
  const Tensor x = Tensor::zeros({1, 2, 2, 3}), v3 = Tensor::zeros({3}), v2 = Tensor::zeros({2});
  CHECK_THROWS_WITH(kernels::norm_act(x, {v2, v3, {}, Activation::relu, {}}),
                    Catch::Contains("scale") && Catch::Contains("expected 3"));
  CHECK_THROWS_WITH(kernels::norm_act(x, {v3, v2, {}, Activation::relu, {}}), Catch::Contains("shift"));
  CHECK_THROWS_WITH(kernels::norm_act(x, {v3, v3, Tensor::zeros({1, 2, 3, 3}), Activation::relu, {}}),
                    Catch::Contains("residual [1, 2, 3, 3]"));
  CHECK_THROWS_WITH(norm_act_backward(Tensor::zeros({1, 2, 2, 2}), x, {v3, v3, {}, Activation::relu, {}},
                                      {v3, v3}, v3, 0, true, false),
                    Catch::Contains("[1, 2, 2, 2]"));
  const auto backward_with = [&](const Tensor& mean, const Tensor& variance, const Tensor& gamma) {
    norm_act_backward(x, x, {v3, v3, {}, Activation::relu, {}}, {mean, variance}, gamma, 0, true, false);
  };
  CHECK_THROWS_WITH(backward_with(v2, v3, v3), Catch::Contains("backward: mean"));
  CHECK_THROWS_WITH(backward_with(v3, v2, v3), Catch::Contains("backward: variance"));
  CHECK_THROWS_WITH(backward_with(v3, v3, v2), Catch::Contains("backward: gamma"));
  CHECK_THROWS_AS(kernels::channel_statistics(v3), Error);
}
