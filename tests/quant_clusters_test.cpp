// Schemes dfp and dorefa against their formulas, tried the slow way in double precision.
#include <cmath>
#include <limits>
#include <set>

#include "core/kernels/elementwise.h"
#include "nn/batch_norm.h"
#include "quant/dfp_scheme.h"
#include "quant/dorefa_scheme.h"
#include "quant/faq_scheme.h"
#include "quant/scheme.h"
#include "tests/integer_reference.h"

using namespace faq;
using namespace faq::testing;

namespace {

Tensor normal_weights(const Shape& shape, std::uint64_t salt) {
  Random random(4, RandomStream::test, salt);
  Tensor weights = Tensor::empty(shape);
  for (float& w : weights.mutable_span<float>()) w = static_cast<float>(0.05 * random.normal());
  return weights;
}

double distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

// The ternary approximation of a group that the paper's search finds: every |w| (and 0) as the threshold.
std::vector<double> best_ternary(const std::vector<double>& w, kernels::TernaryScale form) {
  std::vector<double> thresholds{0}, best(w.size());
  for (const double v : w) thresholds.push_back(std::abs(v));
  double smallest = distance(w, best);
  for (const double threshold : thresholds) {
    double sum = 0, squares = 0, count = 0;
    for (const double v : w) {
      if (std::abs(v) <= threshold) continue;
      sum += std::abs(v);
      squares += v * v;
      ++count;
    }
    if (count == 0) continue;
    const double scale = form == kernels::TernaryScale::rms ? std::sqrt(squares / count) : sum / count;
    std::vector<double> candidate;
    for (const double v : w) candidate.push_back(std::abs(v) > threshold ? std::copysign(scale, v) : 0.0);
    if (distance(w, candidate) < smallest) {
      smallest = distance(w, candidate);
      best = candidate;
    }
  }
  return best;
}

// body(elements of a group, row, group)
template <class Body>
void for_each_cluster(const Shape& shape, std::int64_t size, Body body) {
  const std::int64_t row_length = shape.numel() / shape[0], length = size * (row_length / shape[1]);
  for (std::int64_t row = 0; row < shape[0]; ++row)
    for (std::int64_t first = 0, g = 0; first < row_length; first += length, ++g) {
      std::vector<std::int64_t> at;
      for (std::int64_t i = first; i < std::min(first + length, row_length); ++i)
        at.push_back(row * row_length + i);
      body(at, row, g);
    }
}

}  // namespace

TEST_CASE("ternary clusters have the best threshold, and scales of 8 bits", "[clusters]") {
  for (const auto form : {kernels::TernaryScale::rms, kernels::TernaryScale::least_squares}) {
    for (const std::int64_t size : {1, 4, 5, 16, 100, 0}) {
      const Tensor weights = normal_weights({6, 16, 3, 3}, static_cast<std::uint64_t>(size));
      INFO("form " << static_cast<int>(form) << ", clusters of " << size);
      NumberFormat options;
      options.scheme = Scheme::dfp;
      options.cluster_size = size;
      options.ternary_scale = form;
      const QuantizedWeights found = quantize_weights(weights, 2, options);
      CHECK(found.bits == 2);
      CHECK(found.code == WeightCode::clusters);
      const std::int64_t clusters = size == 0 || size > 16 ? 16 : size;
      CHECK(found.clusters.size == clusters);
      CHECK(found.clusters.scales.shape() == Shape{6, (16 + clusters - 1) / clusters});
      CHECK(reference::same_bytes(cluster_values(found.clusters), found.values));

      const double step = found.values.fixed_point().scale;
      CHECK(std::exp2(std::round(std::log2(step))) == step);
      const auto w = reference::elements<double>(weights);
      const auto q = reference::elements<std::int64_t>(found.values);
      double largest = 0;
      for_each_cluster(weights.shape(), clusters, [&](const auto& at, std::int64_t row, std::int64_t g) {
        std::vector<double> group;
        for (const auto i : at) group.push_back(w[i]);
        const std::vector<double> best = best_ternary(group, form);
        std::set<std::int64_t> magnitudes;
        for (std::size_t i = 0; i < at.size(); ++i) {
          largest = std::max(largest, std::abs(best[i]));
          CHECK(q[at[i]] == std::llrint(best[i] / step));
          if (q[at[i]] != 0) magnitudes.insert(std::abs(q[at[i]]));
        }
        CHECK(magnitudes.size() <= 1);
        if (!magnitudes.empty())
          CHECK(*magnitudes.begin() ==
                found.clusters.scales.template span<std::uint8_t>()[row * found.clusters.scales.dim(1) + g]);
      });
      // The largest scale uses its eight bits.
      CHECK(largest / step <= 127);
      CHECK(largest / step > 63);
    }
  }
}

TEST_CASE("clusters of 3 and 4 bits are evenly spaced and fit 8 bits", "[clusters]") {
  for (const int bits : {3, 4}) {
    for (const std::int64_t size : {1, 4, 0}) {
      INFO(bits << " bits, clusters of " << size);
      Tensor weights = normal_weights({8, 12, 3, 3}, 9);
      Tensor third = weights.rows(2, 3);
      for (float& v : third.mutable_span<float>()) v *= 0.2f;
      NumberFormat options;
      options.scheme = Scheme::dfp;
      options.cluster_size = size;
      const QuantizedWeights found = quantize_weights(weights, bits, options);
      const int max_code = (1 << (bits - 1)) - 1;
      const auto codes = reference::elements<std::int64_t>(found.clusters.codes);
      const auto q = reference::elements<std::int64_t>(found.values);
      const auto w = reference::elements<double>(weights);
      const double step = found.values.fixed_point().scale;
      int largest_code = 0;
      for_each_cluster(
          weights.shape(), found.clusters.size, [&](const auto& at, std::int64_t row, std::int64_t g) {
            const int scale =
                found.clusters.scales.template span<std::uint8_t>()[row * found.clusters.scales.dim(1) + g];
            CHECK(scale * max_code <= 127);
            for (const auto i : at) {
              const double z = scale > 0 ? w[i] / (scale * step) : 0;
              CHECK(codes[i] == std::clamp<std::int64_t>(std::llrint(z), -max_code, max_code));
              CHECK(q[i] == scale * codes[i]);
              largest_code = std::max(largest_code, static_cast<int>(std::abs(codes[i])));
            }
          });
      CHECK(largest_code == max_code);
      // Better than one step for the whole layer, which is what clusters are for.
      const FixedPoint single = choose_weight_format(weights, bits, WeightScale::mse);
      std::vector<double> clustered, uniform;
      for (const auto v : q) clustered.push_back(static_cast<double>(v) * step);
      for (const auto v : quantized(weights, single))
        uniform.push_back(static_cast<double>(v) * single.scale);
      CHECK(distance(w, clustered) < distance(w, uniform));
    }
  }
}

TEST_CASE("clusters at the edges", "[clusters]") {
  NumberFormat options;
  options.scheme = Scheme::dfp;
  for (const int bits : {2, 4}) {
    INFO(bits << " bits");
    // Nothing but zeros; and a group too small for the step of the others.
    const QuantizedWeights zeros = quantize_weights(Tensor::zeros({2, 8, 1, 1}), bits, options);
    for (const auto v : reference::elements<std::int64_t>(zeros.values)) CHECK(v == 0);
    CHECK(zeros.values.fixed_point().scale > 0);
    const Tensor uneven = Tensor::from({1, 8, 1, 1}, {1, -1, 1, 1, 1e-5f, -1e-5f, 1e-5f, 0});
    const QuantizedWeights found = quantize_weights(uneven, bits, options);
    const auto q = reference::elements<std::int64_t>(found.values);
    CHECK(static_cast<double>(q[0]) * found.values.fixed_point().scale == Approx(1).epsilon(0.05));
    CHECK(q[1] == -q[0]);
    for (int i = 4; i < 8; ++i) CHECK(q[i] == 0);
  }
  // Equal weights are all kept: no threshold separates them.
  const QuantizedWeights equal =
      quantize_weights(Tensor::from({1, 4}, {0.5f, -0.5f, 0.5f, 0.5f}), 2, options);
  CHECK(reference::elements<std::int64_t>(equal.clusters.codes) == std::vector<std::int64_t>{1, -1, 1, 1});
  // More bits than clusters are for: one step for the layer.
  CHECK(quantize_weights(normal_weights({4, 4, 3, 3}, 1), 8, options).code == WeightCode::fixed_point);
}

TEST_CASE("DoReFa's weights follow their formula", "[dorefa]") {
  NumberFormat options;
  options.scheme = Scheme::dorefa;
  for (int bits = 2; bits <= 7; ++bits) {
    INFO(bits << " bits");
    Tensor weights = normal_weights({8, 16, 3, 3}, static_cast<std::uint64_t>(bits));
    weights.mutable_data<float>()[3] = 1.5f;  // where tanh bends
    const Var argument = rounded_argument(Var(weights), bits, options);
    const QuantizedWeights found = quantize_weights(argument.value(), bits, options);
    CHECK(found.code == WeightCode::odd);
    const auto w = reference::elements<double>(weights);
    const auto q = reference::elements<std::int64_t>(found.values);
    double largest = 0;
    for (const double v : w) largest = std::max(largest, std::abs(std::tanh(v)));
    const int levels = (1 << bits) - 1;
    CHECK(found.values.fixed_point().scale == Approx(largest / levels));
    int wrong = 0;
    for (std::size_t i = 0; i < w.size(); ++i) {
      const double x = (std::tanh(w[i]) / (2 * largest) + 0.5) * levels;
      // 2·Q_k(…) − 1 in units of 1/(2^k − 1).
      wrong += q[i] != 2 * std::llrint(x) - levels && std::abs(x - std::floor(x) - 0.5) > 1e-4;
      CHECK(std::abs(q[i]) <= levels);
      CHECK(std::abs(q[i]) % 2 == 1);
    }
    CHECK(wrong == 0);
    CHECK(q[3] == levels);
  }
  const QuantizedWeights zeros = quantize_weights(Tensor::zeros({4, 4}), 4, options);
  for (const auto v : reference::elements<std::int64_t>(zeros.values)) CHECK(std::abs(v) == 1);
  CHECK(quantize_weights(normal_weights({4, 4}, 1), 8, options).code == WeightCode::fixed_point);
}

TEST_CASE("DoReFa's activations divide their range evenly", "[dorefa]") {
  Histogram histogram;
  histogram.add(Tensor::from({5}, {0, 0.5f, 1, 1.5f, 3}));
  NumberFormat options;
  options.scheme = Scheme::dorefa;
  options.calibration = Calibration::max;
  const FixedPoint format = activation_format(histogram, 4, false, options);
  CHECK(format.scale == 0xCDp-10f);  // 3/15 with 8 leading bits
  CHECK(format.max() == 15);
  CHECK(activation_format(histogram, 4, true, options).scale == 0xDBp-9f);
  // By squared error: no other range is better.
  Tensor values = Tensor::empty({20000});
  Random random(3, RandomStream::test);
  for (float& v : values.mutable_span<float>()) v = static_cast<float>(std::abs(random.normal()));
  Histogram many;
  many.add(values);
  options.calibration = Calibration::mse;
  for (const int bits : {2, 3, 4, 8}) {
    INFO(bits << " bits");
    const FixedPoint best = activation_format(many, bits, false, options);
    for (const float factor : {0.5f, 0.9f, 1.1f, 2.0f}) {
      FixedPoint other = best;
      other.scale *= factor;
      CHECK(many.squared_error(best) < many.squared_error(other));
    }
  }
  options.calibration = Calibration::percentile;
  options.calibration_percentile = 50;
  CHECK(activation_format(many, 4, false, options).scale == Approx(many.percentile(50) / 15).epsilon(0.004));
}

TEST_CASE("batch-norm's statistics are taken anew", "[clusters]") {
  const OneThread one_thread;
  const Case c{.size = 16, .weight_bits = 2, .scheme = Scheme::dfp};
  const auto model = quantized_model(c);
  const auto feed = [&](int count) {
    return [&, i = 0, count]() mutable -> std::optional<Tensor> {
      if (i++ == count) return {};
      return images_for(c, 4, static_cast<std::uint64_t>(300 + i));
    };
  };
  // Means over the batches of each batch's statistics: of the first unit, whose input does not change.
  std::vector<double> mean(16), variance(16);
  for (int batch = 1; batch <= 3; ++batch) {
    const auto alone = quantized_model(c);
    CHECK(reestimate_batch_norm(*alone, [&, first = true]() mutable -> std::optional<Tensor> {
            if (!std::exchange(first, false)) return {};
            return images_for(c, 4, static_cast<std::uint64_t>(300 + batch));
          }) == 1);
    for (const auto& buffer : buffers(*alone)) {
      if (buffer.name == "bn1.running_mean")
        for (int i = 0; i < 16; ++i) mean[i] += buffer.value.data<float>()[i] / 3.0;
      if (buffer.name == "bn1.running_var")
        for (int i = 0; i < 16; ++i) variance[i] += buffer.value.data<float>()[i] / 3.0;
    }
  }
  CHECK(reestimate_batch_norm(*model, feed(3)) == 3);
  for (const auto& buffer : buffers(*model)) {
    for (int i = 0; i < 16; ++i) {
      if (buffer.name == "bn1.running_mean")
        CHECK(buffer.value.data<float>()[i] == Approx(mean[i]).margin(1e-6));
      if (buffer.name == "bn1.running_var") CHECK(buffer.value.data<float>()[i] == Approx(variance[i]));
    }
  }
  // Without batches nothing happens.
  const Tensor images = images_for(c, 2);
  const Tensor before = model->forward({}, Var(images)).value().clone();
  CHECK(reestimate_batch_norm(*model, feed(0)) == 0);
  CHECK(reference::same_bytes(model->forward({}, Var(images)).value(), before));
}
