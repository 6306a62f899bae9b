#include "core/kernels/rounded_gradient.h"
#include "core/kernels/norm.h"

#include <cmath>
#include <limits>

#include "core/kernels/norm.h"
#include "core/kernels/tree_sum.h"
#include "core/parallel.h"
#include "core/rng.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::RoundedGradient;

namespace {

RoundingKeys keys_of(std::int64_t images, std::uint64_t seed = 5) {
  RoundingKeys keys{.seed = seed, .layer = 7, .epoch = 3};
  for (std::int64_t i = 0; i < images; ++i) keys.samples.push_back(100 + 17 * i);
  return keys;
}

// As the header says it, an element at a time.
std::vector<int> rounded_plainly(const Tensor& gradient, const RoundingKeys& keys, std::int64_t first) {
  float largest = 0;
  for (const float g : gradient.span<float>()) largest = std::max(largest, std::abs(g));
  const float scale = std::max(largest / 127.0f, 0x1p-120f), inverse = 1.0f / scale;
  const std::int64_t length = gradient.numel() / gradient.dim(0);
  std::vector<int> q;
  for (std::int64_t i = 0; i < gradient.numel(); ++i) {
    const std::int64_t e = i % length;
    const auto words =
        philox({static_cast<std::uint32_t>(e / 256 * 16 + e % 16),
                static_cast<std::uint32_t>(RandomStream::gradients) << 24 | keys.layer,
                static_cast<std::uint32_t>(keys.epoch),
                static_cast<std::uint32_t>(keys.samples[first + i / length])},
               {static_cast<std::uint32_t>(keys.seed), static_cast<std::uint32_t>(keys.seed >> 32)});
    const std::int64_t byte = e % 256 / 16;
    const float u = (static_cast<float>(words[byte / 4] >> byte % 4 * 8 & 0xFF) + 0.5f) / 256.0f;
    const float product = gradient.data<float>()[i] * inverse;
    q.push_back(static_cast<int>(std::clamp(std::floor(product + u), -127.0f, 127.0f)));
  }
  return q;
}

}  // namespace

TEST_CASE("a rounded gradient is what its definition says", "[gradient][isa]") {
  std::uint64_t salt = 1;
  for (const Shape& shape : {Shape{1, 1, 1, 1}, Shape{1, 4, 4, 8}, Shape{3, 5, 7, 16}, Shape{4, 1, 1, 129},
                             Shape{2, 9, 8, 33}, Shape{5, 1, 1, 10}}) {
    INFO(shape);
    const Tensor gradient = reference::random(shape, salt++, -3e-4, 2e-4);
    const RoundingKeys keys = keys_of(2 + shape[0]);
    const RoundedGradient rounded = kernels::rounded(gradient, keys, 2);
    CHECK(reference::elements<int>(rounded.values) == rounded_plainly(gradient, keys, 2));
    float largest = 0;
    for (const float g : gradient.span<float>()) largest = std::max(largest, std::abs(g));
    CHECK(rounded.scale == largest / 127);
  }
}

TEST_CASE("rounding is right on average and never further than one step", "[gradient]") {
  const Tensor gradient = reference::random({1, 4, 4, 16}, 3);
  std::vector<double> mean(static_cast<std::size_t>(gradient.numel()));
  constexpr int draws = 4000;
  for (int i = 0; i < draws; ++i) {
    RoundingKeys keys = keys_of(1);
    keys.samples[0] = i;
    const RoundedGradient r = kernels::rounded(gradient, keys, 0);
    for (std::size_t e = 0; e < mean.size(); ++e) {
      const double value = r.values.data<std::int8_t>()[e] * static_cast<double>(r.scale);
      mean[e] += value / draws;
      CHECK(std::abs(value - gradient.data<float>()[e]) <= r.scale * 1.00001);
    }
  }
  // The standard deviation of one draw is at most half a step.
  const double step = kernels::rounded(gradient, keys_of(1), 0).scale;
  for (std::size_t e = 0; e < mean.size(); ++e)
    CHECK(std::abs(mean[e] - gradient.data<float>()[e]) < 5 * 0.5 * step / std::sqrt(draws));
}

TEST_CASE("the random bits of an image depend on its sample, layer, epoch and seed alone", "[gradient]") {
  const Shape shape{6, 5, 5, 24};
  const Tensor gradient = reference::random(shape, 4);
  const RoundingKeys keys = keys_of(6);
  const RoundedGradient all = kernels::rounded(gradient, keys, 0);
  for (int threads : {1, 2, 4}) {
    set_num_threads(threads);
    CHECK(reference::same_bytes(kernels::rounded(gradient, keys, 0).values, all.values));
  }
  set_num_threads(0);
  // In another batch, at another place; the scale is made the same by the first image.
  Tensor two = Tensor::empty({2, 5, 5, 24});
  std::ranges::copy(gradient.rows(4, 5).span<float>(), two.mutable_data<float>());
  std::ranges::copy(gradient.rows(1, 2).span<float>(), two.mutable_data<float>() + 5 * 5 * 24);
  *two.mutable_data<float>() = all.scale * 127;
  RoundingKeys others = keys_of(2);
  others.samples = {keys.samples[4], keys.samples[1]};
  const RoundedGradient part = kernels::rounded(two, others, 0);
  REQUIRE(part.scale == all.scale);
  CHECK(reference::same_bytes(part.values.rows(1, 2), all.values.rows(1, 2)));
  for (const auto& change : {+[](RoundingKeys& k) { ++k.seed; }, +[](RoundingKeys& k) { ++k.layer; },
                             +[](RoundingKeys& k) { ++k.epoch; },
                             +[](RoundingKeys& k) {
                               for (auto& sample : k.samples) ++sample;
                             }}) {
    RoundingKeys changed = keys;
    change(changed);
    CHECK_FALSE(reference::same_bytes(kernels::rounded(gradient, changed, 0).values, all.values));
  }
}

TEST_CASE("gradients of zeros, of tiny numbers and of none", "[gradient]") {
  const RoundingKeys keys = keys_of(1);
  const RoundedGradient zeros = kernels::rounded(Tensor::zeros({1, 2, 2, 3}), keys, 0);
  CHECK(zeros.scale == 0x1p-120f);
  CHECK(reference::elements<int>(zeros.values) == std::vector<int>(12, 0));
  const RoundedGradient tiny = kernels::rounded(Tensor::full({1, 1, 1, 2}, 0x1p-140f), keys, 0);
  CHECK(tiny.scale == 0x1p-120f);
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    Tensor gradient = Tensor::full({1, 3, 3, 8}, 0.5f);
    gradient.mutable_data<float>()[40] = bad;
    CHECK(std::isnan(kernels::rounded(gradient, keys, 0).scale));
  }
  CHECK_THROWS_WITH(kernels::rounded(Tensor::zeros({2, 1, 1, 1}), keys, 0),
                    Catch::Contains("the pass names 1 samples"));
}

TEST_CASE("a tree of sums has one order", "[gradient]") {
  for (const std::int64_t leaves : {1, 2, 3, 5, 8, 13}) {
    INFO(leaves << " leaves");
    const auto leaf = [](std::int64_t i) {
      return reference::random({33}, static_cast<std::uint64_t>(i), -1 - i * i, 1 + i * i * i);
    };
    std::vector<Tensor> level;
    for (std::int64_t i = 0; i < leaves; ++i) level.push_back(leaf(i));
    while (level.size() > 1) {
      std::vector<Tensor> next;
      for (std::size_t i = 0; i < level.size(); i += 2)
        next.push_back(i + 1 < level.size() ? kernels::add(level[i], level[i + 1]) : level[i]);
      level = next;
    }
    for (const std::int64_t step : {std::int64_t{1}, leaves + 1, 2 * leaves - 1}) {
      kernels::TreeSum sum(leaves);
      for (std::int64_t i = 0; i < leaves; ++i) sum.add(i * step % leaves, leaf(i * step % leaves));
      CHECK(reference::same_bytes(sum.total(), level[0]));
    }
    for (const std::int64_t step : {std::int64_t{1}, leaves + 1, 2 * leaves - 1}) {
      kernels::TreeSum sum(leaves);
      int pairs = 0;
      for (std::int64_t i = 0; i < leaves; ++i) {
        const std::int64_t number = i * step % leaves;
        const Tensor neighbour = sum.take_neighbour(number);
        if (neighbour) {
          sum.add_pair(number, kernels::add(neighbour, leaf(number)));
        } else {
          sum.add(number, leaf(number));
        }
        pairs += neighbour ? 1 : 0;
      }
      CHECK(pairs == leaves / 2);
      CHECK(reference::same_bytes(sum.total(), level[0]));
    }
    if (leaves > 1) {
      kernels::TreeSum sum(leaves);
      for (std::int64_t i = 1; i < leaves; ++i) sum.add(i, leaf(i));
      if (leaves > 2) CHECK_THROWS(sum.add(leaves, leaf(0)));
    }
  }
}

TEST_CASE("the gradient of a normalisation in 8 bits has a scale that bounds it", "[gradient][norm][isa]") {
  std::uint64_t salt = 100;
  for (const Shape& shape :
       {Shape{5, 3, 3, 20}, Shape{6, 12, 13, 48}, Shape{7, 1, 1, 700}, Shape{4, 30, 30, 64}}) {
    for (const bool batch_statistics : {true, false}) {
      INFO(shape << (batch_statistics ? "" : ", constant statistics"));
      const std::int64_t channels = shape[3], length = shape.numel() / shape[0];
      const Tensor x = reference::random(shape, ++salt, -2, 2),
                   dy = reference::random(shape, ++salt, -2e-3, 2e-3);
      const Tensor residual = reference::random(shape, ++salt);
      const Tensor gamma = reference::random({channels}, ++salt, -0.5, 1.5);
      const kernels::NormActParams params{
          .scale = gamma, .shift = Tensor::zeros({channels}), .residual = residual, .format = {}};
      const kernels::NormActBackward pass(dy, x, params, kernels::channel_statistics(x), gamma, 1e-5f,
                                          {.batch_statistics = batch_statistics,
                                           .with_rounding = true,
                                           .factors = reference::random({channels}, ++salt, 0.1, 0.2)});
      const RoundingKeys keys = keys_of(shape[0]);
      float largest_of_all = 0;
      for (const auto& [first, last] : {std::pair<std::int64_t, std::int64_t>{0, 3}, {3, shape[0]}}) {
        const Shape part = shape.with(0, last - first);
        Tensor dx = Tensor::empty(part), dresidual = Tensor::empty(part), same = Tensor::empty(part);
        pass.apply(first, last, dx, dresidual);
        const RoundedGradient rounded = pass.apply_rounded(first, last, keys, same);
        CHECK(reference::same_bytes(same, dresidual));
        float largest = 0;
        for (const float g : dx.span<float>()) largest = std::max(largest, std::abs(g));
        largest_of_all = std::max(largest_of_all, largest);
        CHECK(rounded.scale * 127 >= largest * 0.999999f);
        // With many rows, means change little.
        if (shape.numel() / channels > 500) CHECK(rounded.scale * 127 < largest * 1.2f);
        CHECK(rounded.scale * 127 < largest_of_all * 8);
        const kernels::GradientRounder rounder(keys, length, rounded.scale);
        std::vector<std::int8_t> expected(static_cast<std::size_t>(part.numel()));
        for (std::int64_t image = first; image < last; ++image)
          rounder.round(image, 0, length, dx.data<float>() + (image - first) * length,
                        &expected[(image - first) * length]);
        CHECK(std::ranges::equal(rounded.values.span<std::int8_t>(), expected));
      }
    }
  }
}

TEST_CASE("the gradient of a normalisation in 8 bits knows what is not finite", "[gradient][norm]") {
  const Shape shape{4, 20, 20, 8};
  const Tensor x = reference::random(shape, 1), gamma = Tensor::full({8}, 1), zeros = Tensor::zeros({8});
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    Tensor dy = reference::random(shape, 2), none;
    dy.mutable_data<float>()[3 * 20 * 20 * 8 + 5] = bad;
    const kernels::NormActBackward pass(
        dy, x,
        {.scale = gamma, .shift = zeros, .residual = {}, .activation = Activation::identity, .format = {}},
        kernels::channel_statistics(x), gamma, 1e-5f, {.with_rounding = true});
    CHECK(std::isnan(pass.apply_rounded(0, 2, keys_of(4), none).scale));  // through the means
    CHECK(std::isnan(pass.apply_rounded(2, 4, keys_of(4), none).scale));
    // Without means it stays in its group.
    const kernels::NormActBackward apart(
        dy, x,
        {.scale = gamma, .shift = zeros, .residual = {}, .activation = Activation::identity, .format = {}},
        kernels::channel_statistics(x), gamma, 1e-5f, {.batch_statistics = false, .with_rounding = true});
    CHECK(std::isfinite(apart.apply_rounded(0, 2, keys_of(4), none).scale));
    CHECK(std::isnan(apart.apply_rounded(2, 4, keys_of(4), none).scale));
  }
}
