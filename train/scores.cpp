#include "train/scores.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "core/kernels/loss.h"

namespace faq {
namespace {

constexpr double unit_per_loss = 4294967296.0;  // 2^32; also the largest loss of an image that counts

}  // namespace

void Scores::add(const Tensor& logits, std::span<const std::int32_t> labels) {
  const std::vector<double> losses =
      kernels::cross_entropy(logits, labels, 0.0f).losses;  // also checks the labels
  const std::int64_t classes = logits.dim(1);
  classes_.resize(static_cast<std::size_t>(classes));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i);
    const float* row = logits.data<float>() + n * classes;
    const std::int32_t label = labels[i];
    std::int64_t rank = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
      // NaN is never the larger logit.
      if (k != label && !(row[label] > row[k] || (row[label] == row[k] && label < k))) ++rank;
    }
    Counts& counts = classes_.at(static_cast<std::size_t>(label));
    ++counts[images];
    counts[top1] += rank < 1;
    counts[top5] += rank < 5;
    add_loss(counts, losses[i]);
  }
}

void Scores::add_loss(Counts& counts, double value) {
  if (!(value <= unit_per_loss)) {
    ++counts[not_finite];
    return;
  }
  const double whole = std::floor(value);
  counts[loss] += static_cast<std::int64_t>(whole);
  counts[loss_fraction] += std::llrint((value - whole) * unit_per_loss);
}

void Scores::add(Counts& counts, const Counts& other) {
  std::ranges::transform(counts, other, counts.begin(), std::plus());
}

void Scores::merge(const Scores& other) {
  if (classes_.size() < other.classes_.size()) classes_.resize(other.classes_.size());
  for (std::size_t i = 0; i < other.classes_.size(); ++i) add(classes_[i], other.classes_[i]);
}

std::vector<std::int64_t> Scores::to_counts(std::int64_t classes) const {
  check(static_cast<std::int64_t>(classes_.size()) <= classes, "scores: counts of ", classes_.size(),
        " classes, expected at most ", classes);
  std::vector<std::int64_t> counts;
  for (const Counts& c : classes_) counts.insert(counts.end(), c.begin(), c.end());
  counts.resize(static_cast<std::size_t>(classes * kinds));
  return counts;
}

Scores Scores::from_counts(std::span<const std::int64_t> counts) {
  check(counts.size() % kinds == 0, "scores: ", counts.size(), " counts, expected ", int{kinds},
        " for each class");
  Scores scores;
  scores.classes_.resize(counts.size() / kinds);
  for (std::size_t i = 0; i < counts.size(); ++i) scores.classes_[i / kinds][i % kinds] = counts[i];
  return scores;
}

Evaluation Scores::evaluation(const Counts& counts) {
  if (counts[images] == 0) return {};
  const auto n = static_cast<double>(counts[images]);
  const auto value = [&](Count count) { return static_cast<double>(counts[count]); };
  const double loss_sum = counts[not_finite] > 0 ? std::numeric_limits<double>::quiet_NaN()
                                                 : value(loss) + value(loss_fraction) / unit_per_loss;
  return {.images = counts[images],
          .top1 = 100.0 * value(top1) / n,
          .top5 = 100.0 * value(top5) / n,
          .loss = loss_sum / n,
          .images_per_s = 0};
}

Scores::Counts Scores::all() const {
  Counts all{};
  for (const Counts& c : classes_) add(all, c);
  return all;
}

Evaluation Scores::result() const { return evaluation(all()); }

std::int64_t Scores::correct() const { return all()[top1]; }

Evaluation Scores::of_class(std::int32_t label) const {
  return evaluation(static_cast<std::size_t>(label) < classes_.size()
                        ? classes_[static_cast<std::size_t>(label)]
                        : Counts());
}

}  // namespace faq
