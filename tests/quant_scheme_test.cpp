#include "quant/faq_scheme.h"

#include <cmath>
#include <limits>

#include "core/kernels/quantization_error.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

// Σ (w − Q(w))², from the definition.
double squared_error(const Tensor& weights, const FixedPoint& f) {
  double error = 0;
  for (const double w : reference::elements<double>(weights)) {
    const double q =
        std::clamp(std::nearbyint(w / f.scale), static_cast<double>(f.min()), static_cast<double>(f.max()));
    error += (w - q * f.scale) * (w - q * f.scale);
  }
  return error;
}

}  // namespace

TEST_CASE("covering_scale is the smallest power of two that covers", "[quant_scheme]") {
  struct Row {
    float magnitude;
    int max;
    float scale;
  };
  const Row rows[] = {
      {0, 127, 1},
      {127, 127, 1},
      {127.5f, 127, 2},
      {128, 127, 2},
      {63.5f, 127, 0.5f},
      {254, 127, 2},
      {std::nextafter(254.0f, 1e9f), 127, 4},
      {255, 255, 1},
      {1, 255, 0.0078125f},
      {1, 1, 1},
      {std::nextafter(1.0f, 2.0f), 1, 2},
      {7, 7, 1},
      {7.0001f, 7, 2},
      {3.5f, 7, 0.5f},
      {15e-3f, 15, 0.001953125f},
      {0x1p-100f, 1, 0x1p-100f},
      {1e-37f, 127, least_scale},
      {1e-45f, 1, least_scale},
  };
  for (const Row& row : rows) {
    INFO(row.magnitude << " in " << row.max);
    CHECK(covering_scale(row.magnitude, row.max) == row.scale);
  }
  // Covers, and half of it would not, for anything.
  Random random(1, RandomStream::test);
  for (int i = 0; i < 10000; ++i) {
    const auto magnitude = static_cast<float>(std::exp2(random.uniform(-30, 30)));
    const int max = std::vector{1, 3, 7, 15, 31, 63, 127, 255}[random.below(8)];
    const double step = covering_scale(magnitude, max);
    INFO(magnitude << " in " << max << ": " << step);
    REQUIRE(step * max >= magnitude);
    REQUIRE(step / 2 * max < magnitude);
    REQUIRE(std::exp2(std::round(std::log2(step))) == step);
    // FAQ, section 3: l = ceil(log2(p / (2^b − 1))); away from powers of two, where log2 is not exact.
    const double l = std::log2(static_cast<double>(magnitude) / max);
    if (std::abs(l - std::round(l)) > 1e-9) REQUIRE(std::log2(step) == std::ceil(l));
  }
}

TEST_CASE("the format of weights is the best of all exponents", "[quant_scheme]") {
  const OneThread one_thread;
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    for (const std::uint64_t salt : {1, 2, 3, 4}) {
      INFO("bits " << bits << ", tensor " << salt);
      Random random(2, RandomStream::test, salt);
      Tensor weights = Tensor::empty({16, 5, 3, 3});
      for (float& w : weights.mutable_span<float>())
        w = static_cast<float>((salt % 2 ? random.normal() : random.uniform(-1, 1)) *
                               std::exp2(salt * 2.3 - 6));
      if (salt == 4) weights.mutable_data<float>()[7] = 30;  // an outlier
      double largest = 0;
      for (const float w : weights.span<float>()) largest = std::max<double>(largest, std::abs(w));

      const FixedPoint max = choose_weight_format(weights, bits, WeightScale::max);
      CHECK(max.is_signed);
      CHECK(max.bits == bits);
      CHECK(static_cast<double>(max.scale) * max.max() >= largest);
      CHECK(static_cast<double>(max.scale) / 2 * max.max() < largest);

      const FixedPoint mse = choose_weight_format(weights, bits, WeightScale::mse);
      CHECK(mse.bits == bits);
      double best = std::numeric_limits<double>::infinity(), step = 0;
      for (int l = -24; l <= 8; ++l) {
        const double error = squared_error(weights, {std::ldexp(1.0f, l), bits, true});
        if (error < best) {
          best = error;
          step = std::ldexp(1.0, l);
        }
      }
      CHECK(mse.scale == step);
      CHECK(mse.scale <= max.scale);
    }
  }
  const Tensor zeros = Tensor::zeros({4, 4});
  for (const WeightScale how : {WeightScale::max, WeightScale::mse}) {
    const FixedPoint format = choose_weight_format(zeros, 4, how);
    CHECK(std::isfinite(format.scale));
    CHECK(format.scale > 0);
  }
}

TEST_CASE("of weights that were seen, nothing is read again", "[quant_scheme]") {
  Tensor weights = reference::random({64, 9}, 3);
  const float magnitude = kernels::max_magnitude(weights);
  const FixedPoint best = choose_weight_format(weights, 4, WeightScale::mse);
  // Errors that say: the last format.
  SeenWeights seen{weights.version(), magnitude, weight_formats(magnitude, 4, WeightScale::mse), {}};
  for (std::size_t i = 0; i < seen.formats.size(); ++i)
    seen.errors.push_back(static_cast<double>(seen.formats.size() - i));
  REQUIRE(best != seen.formats.back());
  const auto chosen = [&](int bits) { return choose_weight_format(weights, bits, WeightScale::mse, &seen); };
  CHECK(chosen(4) == seen.formats.back());
  CHECK(chosen(3) == choose_weight_format(weights, 3, WeightScale::mse));  // errors of other formats
  seen.max_magnitude = 4 * magnitude;
  CHECK(chosen(4) == best);  // as before, among others
  CHECK(choose_weight_format(weights, 4, WeightScale::max, &seen).scale ==
        4 * choose_weight_format(weights, 4, WeightScale::max).scale);
  weights.mutable_data<float>();  // another version
  CHECK(chosen(4) == best);
  CHECK(choose_weight_format(weights, 4, WeightScale::max, &seen) ==
        choose_weight_format(weights, 4, WeightScale::max));
}

TEST_CASE("the format of activations follows its formula", "[quant_scheme]") {
  Tensor values = Tensor::empty({100000});
  Random random(3, RandomStream::test);
  for (float& v : values.mutable_span<float>()) v = static_cast<float>(std::abs(random.normal()));
  values.mutable_data<float>()[500] = 100;  // outliers: fewer than 0.01 %
  values.mutable_data<float>()[501] = 90;
  Histogram histogram;
  histogram.add(values);
  for (const bool is_signed : {false, true}) {
    for (int bits = 2; bits <= 8; ++bits) {
      INFO((is_signed ? "s" : "u") << bits);
      const int levels = is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1;
      const auto step = [&](Calibration calibration, double percentile = 0) {
        NumberFormat options;
        options.calibration = calibration;
        options.calibration_percentile = percentile;
        const FixedPoint format = choose_activation_format(histogram, bits, is_signed, options);
        CHECK(format.bits == bits);
        CHECK(format.is_signed == is_signed);
        CHECK(format.max() == levels);
        return static_cast<double>(format.scale);
      };
      const auto formula = [&](double p) { return std::exp2(std::ceil(std::log2(p / levels))); };
      CHECK(step(Calibration::max) == formula(100));
      CHECK(step(Calibration::percentile) == formula(histogram.percentile(bits > 6 ? 99.99 : 99.9)));
      CHECK(step(Calibration::percentile, 90) == formula(histogram.percentile(90)));
      CHECK(step(Calibration::percentile, 100) == formula(100));
      // The best of the exponents down from the one that covers everything.
      double best = std::numeric_limits<double>::infinity(), chosen = 0;
      for (int i = 0; i < 6; ++i) {
        const auto candidate = static_cast<float>(formula(100) * std::exp2(-i));
        const double error = squared_error(values, {candidate, bits, is_signed});
        if (error < best) {
          best = error;
          chosen = candidate;
        }
      }
      CHECK(step(Calibration::mse) == chosen);
    }
  }
}
