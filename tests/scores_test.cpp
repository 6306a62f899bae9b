#include "train/scores.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "core/error.h"
#include "core/rng.h"
#include "tests/data_testing.h"
#include "tests/reference.h"

using namespace faq;
using namespace faq::testing;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();
constexpr float infinity = std::numeric_limits<float>::infinity();

Scores scores_of(const Tensor& logits, const std::vector<std::int32_t>& labels) {
  Scores scores;
  scores.add(logits, labels);
  return scores;
}

/// Two classes whose first logit is lower by `loss`, so large that the loss of label 0 is that difference.
Scores image_of_loss(float loss) { return scores_of(Tensor::from<float>({1, 2}, {{-loss, 0}}), {0}); }

}  // namespace

TEST_CASE("scores count ranks", "[scores]") {
  struct Row {
    std::vector<float> logits;
    std::int32_t label;
    bool top1, top5;
  };
  const Row rows[] = {
      {{1, 2, 3, 4, 5, 6, 7}, 6, true, true},
      {{1, 2, 3, 4, 5, 6, 7}, 2, false, true},
      {{1, 2, 3, 4, 5, 6, 7}, 1, false, false},
      {{5, 5, 5, 5, 5, 5, 5}, 0, true, true},
      {{5, 5, 5, 5, 5, 5, 5}, 4, false, true},
      {{5, 5, 5, 5, 5, 5, 5}, 5, false, false},
      {{not_a_number, 1, 1, 1, 1, 1, 1}, 0, false, false},
      {{not_a_number, 1, 0, 0, 0, 0, 0}, 1, false, true},
      {{not_a_number, not_a_number, not_a_number, not_a_number, not_a_number, not_a_number, not_a_number},
       0,
       false,
       false},
  };
  double top1 = 0, top5 = 0;
  Scores together;
  for (const Row& row : rows) {
    INFO("label " << row.label);
    const Tensor logits = Tensor::from<float>({1, 7}, row.logits);
    Scores scores;
    scores.add(logits, std::span(&row.label, 1));
    together.add(logits, std::span(&row.label, 1));
    CHECK(scores.result().top1 == (row.top1 ? 100 : 0));
    CHECK(scores.result().top5 == (row.top5 ? 100 : 0));
    top1 += row.top1;
    top5 += row.top5;
  }
  CHECK(together.result().images == static_cast<std::int64_t>(std::size(rows)));
  CHECK(together.result().top1 == Approx(100 * top1 / std::size(rows)));
  CHECK(together.result().top5 == Approx(100 * top5 / std::size(rows)));
  CHECK(Scores().result().images == 0);
}

TEST_CASE("merged scores are those of the whole", "[scores]") {
  const Tensor logits = reference::random({12, 7}, 4);
  const std::vector<std::int32_t> labels{0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 0};  // the last class has none
  const auto of = [&](std::int64_t begin, std::int64_t end) {
    Scores scores;
    if (begin < end) scores.add(logits.rows(begin, end), std::span(labels).subspan(begin, end - begin));
    return scores;
  };
  const Scores whole = of(0, 12);
  for (const auto& [first, second] : {std::pair{4, 9}, {0, 5}, {12, 12}, {1, 1}}) {
    INFO("parts end at " << first << ", " << second << " and 12");
    Scores left = of(0, first), right = of(first, second);
    left.merge(right);
    left.merge(of(second, 12));  // (a + b) + c
    right.merge(of(second, 12));
    Scores other = of(0, first);
    other.merge(right);  // a + (b + c)
    for (const Scores* merged : {&left, &other}) {
      CHECK(merged->correct() == whole.correct());
      CHECK(merged->result().images == 12);
      CHECK(merged->result().top5 == whole.result().top5);
      CHECK(merged->result().loss == whole.result().loss);
      for (int label = 0; label < 7; ++label) {
        INFO("class " << label);
        CHECK(merged->of_class(label).images == whole.of_class(label).images);
        CHECK(merged->of_class(label).top1 == whole.of_class(label).top1);
        CHECK(merged->of_class(label).loss == whole.of_class(label).loss);
      }
    }
  }
}

TEST_CASE("scores in any order and in any parts are the same", "[scores]") {
  constexpr int images = 300, classes = 7;
  Tensor logits = reference::random({images, classes}, 9);
  for (float& v : logits.mutable_span<float>()) v *= 20;  // losses from 0 to a hundred
  std::vector<std::int32_t> labels(images);
  Random random(1, RandomStream::test, 0);
  for (std::int32_t& label : labels) label = static_cast<std::int32_t>(random.below(classes - 1));
  const Scores whole = scores_of(logits, labels);
  const std::vector<std::int64_t> expected = whole.to_counts(classes);

  for (const int parts : {1, 2, 3, 7, 300}) {
    CAPTURE(parts);
    std::vector<int> order(images);
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size(); i > 1; --i)
      std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
    std::vector<Scores> of_part(static_cast<std::size_t>(parts));
    for (int i = 0; i < images; ++i) {
      const int image = order[static_cast<std::size_t>(i)];
      of_part[static_cast<std::size_t>(i % parts)].add(logits.rows(image, image + 1),
                                                       std::span(labels).subspan(image, 1));
    }
    Scores merged;
    std::vector<std::int64_t> sum(expected.size());
    for (const Scores& part : of_part) {
      merged.merge(part);
      const auto counts = part.to_counts(classes);
      REQUIRE(counts.size() == sum.size());
      std::ranges::transform(sum, counts, sum.begin(), std::plus());
    }
    CHECK(merged.to_counts(classes) == expected);
    CHECK(sum == expected);
    const Scores received = Scores::from_counts(sum);
    CHECK(received.result().loss == whole.result().loss);
    CHECK(received.result().top5 == whole.result().top5);
    CHECK(received.correct() == whole.correct());
    for (int label = 0; label < classes; ++label) {
      CHECK(received.of_class(label).images == whole.of_class(label).images);
      CHECK(received.of_class(label).loss == whole.of_class(label).loss);
    }
  }
  // The sum in floating point, to the precision of the units.
  double sum = 0;
  for (int i = 0; i < images; ++i)
    sum += scores_of(logits.rows(i, i + 1), {labels[static_cast<std::size_t>(i)]}).result().loss;
  CHECK(std::abs(whole.result().loss - sum / images) < 1e-9);
}

TEST_CASE("losses of any size", "[scores]") {
  const struct {
    float loss;
    double expected;
  } rows[] = {
      {0, std::log(2.0)},
      {-100, 0},
      {50, 50},
      {1e6f, 1e6},
      {4294967040.0f, 4294967040.0},
      {4294967296.0f, 0x1p32},
      {1e10f, not_a_number},  // no loss of a classifier
      {3e38f, not_a_number},
      {infinity, not_a_number},
      {not_a_number, not_a_number},
  };
  for (const auto& row : rows) {
    CAPTURE(row.loss);
    const double loss = image_of_loss(row.loss).result().loss;
    if (std::isnan(row.expected))
      CHECK(std::isnan(loss));
    else
      CHECK(std::abs(loss - row.expected) <= 0x1p-33);
  }
  // A non-finite loss is seen in every sum that it is part of, and in no other.
  Scores scores = image_of_loss(50);
  CHECK(scores.result().loss == 50);
  scores.merge(image_of_loss(infinity));
  CHECK(std::isnan(scores.result().loss));
  Scores received = Scores::from_counts(scores.to_counts(2));
  CHECK(std::isnan(received.result().loss));
  received.add(Tensor::from<float>({1, 2}, {{0, 50}}), std::vector<std::int32_t>{1});
  CHECK(std::isnan(received.result().loss));
  CHECK(received.of_class(1).loss < 1e-9);
}

TEST_CASE("scores have room for many images", "[scores]") {
  // 2^31 − 1 images of the largest loss, each with the largest fraction, by doubling.
  Scores scores, part = image_of_loss(4294967040.0f);
  part.merge(scores_of(Tensor::from<float>({1, 2}, {{0, 0}}), {0}));
  for (int bit = 0; bit < 30; ++bit) {
    scores.merge(part);
    part.merge(part);
  }
  const Evaluation evaluation = scores.result();
  CHECK(evaluation.images == (std::int64_t{1} << 31) - 2);
  CHECK(evaluation.loss == Approx((4294967040.0 + std::log(2.0)) / 2).epsilon(1e-15));
}

TEST_CASE("counts of scores are whole classes", "[scores]") {
  const Scores scores = image_of_loss(1);
  CHECK(Scores().to_counts(3) == std::vector<std::int64_t>(scores.to_counts(3).size()));
  CHECK(Scores::from_counts({}).result().images == 0);
  check_error(ErrorKind::internal, "counts of 2 classes, expected at most 1", [&] { scores.to_counts(1); });
  auto counts = scores.to_counts(2);
  counts.pop_back();
  check_error(ErrorKind::internal, "11 counts, expected 6 for each class",
              [&] { Scores::from_counts(counts); });
}
