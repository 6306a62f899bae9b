#include "quant/calibration.h"

#include <cmath>
#include <limits>
#include <numeric>
#include <set>

#include "quant/histogram.h"
#include "quant/quantize.h"
#include "quant/scheme.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

Tensor values_of(const std::vector<float>& values) {
  return Tensor::from<float>({static_cast<std::int64_t>(values.size())}, values);
}

std::vector<float> random_values(int count, std::uint64_t salt, double scale = 1) {
  Random random(4, RandomStream::test, salt);
  std::vector<float> values;
  for (int i = 0; i < count; ++i) values.push_back(static_cast<float>(random.normal() * scale));
  return values;
}

// The magnitude that `percent` % of all do not exceed.
double exact_percentile(std::vector<float> values, double percent) {
  for (float& v : values) v = std::abs(v);
  std::ranges::sort(values);
  const auto reached =
      static_cast<std::size_t>(std::ceil(percent / 100 * static_cast<double>(values.size())));
  return values[std::max<std::size_t>(reached, 1) - 1];
}

}  // namespace

TEST_CASE("percentiles of a histogram are those of the sorted values, to a bin", "[quant_calibration]") {
  struct Row {
    const char* what;
    std::vector<std::vector<float>> parts;
  };
  const Row rows[] = {
      {"one part", {random_values(20000, 1)}},
      {"growing a little", {random_values(9000, 2, 0.3), random_values(9000, 3)}},
      {"growing a thousandfold", {random_values(5000, 4, 0.01), random_values(5000, 5, 10)}},
      {"shrinking", {random_values(5000, 6, 5), random_values(5000, 7, 0.1)}},
      {"zeros first", {std::vector<float>(3000), random_values(7000, 8)}},
      {"next to nothing first", {{1e-45f, 3e-38f, -1e-40f, 0}, random_values(7000, 8)}},
      {"one value", {{2.5f}}},
      {"equal values", {std::vector<float>(100, 3.0f)}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    Histogram histogram;
    std::vector<float> all;
    for (const auto& part : row.parts) {
      histogram.add(values_of(part));
      all.insert(all.end(), part.begin(), part.end());
    }
    float max = 0;
    for (const float v : all) max = std::max(max, std::abs(v));
    CHECK(histogram.count() == static_cast<std::int64_t>(all.size()));
    CHECK(histogram.max() == max);
    // The range is at most twice the largest value: so is a bin.
    const double bin = 2.0 * max / Histogram::bins;
    for (const double percent : {1.0, 25.0, 50.0, 90.0, 99.0, 99.9, 99.99, 100.0}) {
      INFO(percent << " %");
      const double exact = exact_percentile(all, percent), found = histogram.percentile(percent);
      CHECK(found >= exact * (1 - 1e-6));
      CHECK(found <= exact + bin * (1 + 1e-3));
    }
    CHECK(histogram.percentile(100) == max);
  }
}

TEST_CASE("merged histograms of one first range are that of all values", "[quant_calibration]") {
  struct Row {
    const char* what;
    std::vector<std::vector<float>> parts;  // each in a histogram of its own, of all the first one's range
  };
  const Row rows[] = {
      {"one range", {random_values(5000, 1, 3), random_values(4000, 2), random_values(3000, 3)}},
      {"growing", {random_values(5000, 1, 0.01), random_values(4000, 2), random_values(3000, 3, 40)}},
      {"largest in the middle", {random_values(5000, 1), random_values(4000, 2, 9), random_values(3000, 3)}},
      {"nothing", {random_values(5000, 1), {}, random_values(3000, 3)}},
      {"zeros", {random_values(5000, 1), std::vector<float>(300), random_values(3000, 3, 2)}},
      {"zeros first", {std::vector<float>(300), std::vector<float>(7), random_values(3000, 3, 2)}},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    float first = 0;
    for (const float v : row.parts[0]) first = std::max(first, std::abs(v));
    Histogram whole, parts[3];
    for (int i = 0; i < 3; ++i) {
      whole.add(values_of(row.parts[i]));
      parts[i].cover(first);
      parts[i].add(values_of(row.parts[i]));
    }
    Histogram left = parts[0], right = parts[1], backwards = parts[2];
    left.merge(parts[1]);
    left.merge(parts[2]);  // (a + b) + c
    right.merge(parts[2]);
    Histogram other = parts[0];
    other.merge(right);  // a + (b + c)
    backwards.merge(parts[1]);
    backwards.merge(parts[0]);
    for (const Histogram* merged : {&left, &other, &backwards}) {
      CHECK(merged->count() == whole.count());
      CHECK(merged->max() == whole.max());
      CHECK(merged->range() == whole.range());
      CHECK(merged->counts() == whole.counts());
    }
  }
}

TEST_CASE("merged histograms of any ranges are a bin from that of all values", "[quant_calibration]") {
  for (const auto& [scale, other_scale] : {std::pair{1.0, 0.3}, {0.3, 1.0}, {1.0, 1.1}, {100.0, 0.01}}) {
    INFO(scale << " and " << other_scale);
    const std::vector<float> a = random_values(6000, 5, scale), b = random_values(7000, 6, other_scale);
    Histogram merged, other;
    merged.add(values_of(a));
    other.add(values_of(b));
    merged.merge(other);
    std::vector<float> all = a;
    all.insert(all.end(), b.begin(), b.end());
    CHECK(merged.count() == 13000);
    CHECK(std::accumulate(merged.counts().begin(), merged.counts().end(), std::int64_t{0}) == 13000);
    float max = 0;
    for (const float v : all) max = std::max(max, std::abs(v));
    CHECK(merged.max() == max);
    const double bin = 2.0 * max / Histogram::bins;
    for (const double percent : {25.0, 50.0, 90.0, 99.0, 99.9, 100.0}) {
      INFO(percent << " %");
      CHECK(std::abs(merged.percentile(percent) - exact_percentile(all, percent)) <= 2 * bin);
    }
  }
}

TEST_CASE("the squared error of a histogram is that of the values", "[quant_calibration]") {
  const std::vector<float> values = random_values(50000, 9);
  Histogram histogram;
  histogram.add(values_of(values));
  for (const FixedPoint& f : {FixedPoint{0.0625f, 8, false}, FixedPoint{0.25f, 4, false},
                              FixedPoint{0.125f, 4, false}, FixedPoint{0.5f, 3, true}}) {
    INFO(f);
    double exact = 0;
    for (const float v : values) {
      const double x = std::abs(v), q = std::min<double>(std::nearbyint(x / f.scale), f.max()) * f.scale;
      exact += (x - q) * (x - q);
    }
    CHECK(histogram.squared_error(f) == Approx(exact).epsilon(0.02));
  }
}

TEST_CASE("what is not finite is refused", "[quant_calibration]") {
  for (const float bad : {std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                          std::numeric_limits<float>::quiet_NaN()}) {
    INFO(bad);
    Histogram histogram;
    histogram.add(values_of({1, 2}));
    check_error(ErrorKind::bad_data, "not finite", [&] { histogram.add(values_of({1, bad, 1})); });
    CHECK(histogram.count() == 2);
    CHECK(histogram.max() == 2);
  }
  Histogram zeros;
  zeros.add(values_of({0, 0, 0}));
  CHECK(zeros.percentile(99.9) == 0);
}

TEST_CASE("values too small to divide by have a histogram and a step", "[quant_calibration]") {
  for (const float value : {1e-45f, 1e-40f, 1e-37f, 5e-36f}) {
    INFO(value);
    Histogram histogram;
    histogram.add(values_of({0, value, -value, 0.3f * value}));
    CHECK(histogram.count() == 4);
    CHECK(histogram.max() == value);
    CHECK(histogram.percentile(100) == value);
    for (const Scheme scheme : {Scheme::faq, Scheme::dorefa}) {
      for (const Calibration how : {Calibration::percentile, Calibration::max, Calibration::mse}) {
        const FixedPoint format =
            activation_format(histogram, 4, false, {.scheme = scheme, .calibration = how});
        CHECK(std::isnormal(format.scale));
        CHECK(std::isnormal(1 / format.scale));
      }
    }
  }
}

TEST_CASE("a layer that is all but dead is calibrated and quantized", "[quant_calibration]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  for (auto& [name, parameter] : parameters(*model))
    if (name == "bn1.weight") parameter.mutable_value() = Tensor::full({16}, 1e-37f);
  const Tensor images = reference::random_integers<std::uint8_t>({2, 8, 8, 3}, 1, 0, 255);
  const CalibrationResult seen = calibrate(*model, [&, left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(images) : std::nullopt;
  });
  quantize(*model, {.scheme = Scheme::faq}, &seen);
  const Tensor logits = model->forward({}, Var(images)).value();
  for (const float logit : logits.span<float>()) CHECK(std::isfinite(logit));
}

TEST_CASE("calibration sees what every unit hands on", "[quant_calibration]") {
  const OneThread one_thread;
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  const auto images = [](std::uint64_t salt) {
    return reference::random_integers<std::uint8_t>({2, 8, 8, 3}, salt, 0, 255);
  };
  const Tensor logits = model->forward({}, Var(images(1))).value();
  const CalibrationResult seen = calibrate(*model, [&, i = 0]() mutable -> std::optional<Tensor> {
    if (i++ == 3) return {};
    return images(static_cast<std::uint64_t>(i));
  });
  CHECK(seen.images == 6);
  for (const auto& [name, flow] : seen.flow) {
    INFO(name);
    CHECK(flow.tied_to == name);
    const bool read_by_classifier = name == "layer3.2.conv2" || name == "fc";
    CHECK(flow.read_by_conv == !read_by_classifier);
    CHECK(flow.read_by_classifier == read_by_classifier);
    CHECK_FALSE(flow.read_by_norm);
    CHECK(flow.is_signed == (name == "input"));
  }
  CHECK(seen.activations.size() == 21);
  struct {
    const char* name;
    std::int64_t count;
  } const rows[] = {{"input", 6 * 64 * 3},
                    {"conv1", 6 * 64 * 16},
                    {"layer2.0.conv1", 6 * 16 * 32},
                    {"layer3.2.conv2", 6 * 4 * 64},
                    {"fc", 6 * 64}};
  for (const auto& row : rows) {
    INFO(row.name);
    REQUIRE(seen.activations.contains(row.name));
    const Histogram& histogram = seen.activations.at(row.name);
    CHECK(histogram.count() == row.count);
    CHECK(histogram.max() > 0);
  }
  // The model is as it was: no adapters, the same result.
  for_each_unit(*model, [](const std::string&, Unit& unit) { CHECK(unit.adapter() == nullptr); });
  CHECK(reference::same_bytes(logits, model->forward({}, Var(images(1))).value()));

  check_error(ErrorKind::bad_data, "no images",
              [&] { calibrate(*model, []() -> std::optional<Tensor> { return {}; }); });
}
