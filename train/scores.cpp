#include "train/scores.h"

#include "core/kernels/loss.h"

namespace faq {

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
    ++counts.images;
    counts.top1 += rank < 1;
    counts.top5 += rank < 5;
    counts.loss += losses[i];
  }
}

void Scores::Counts::merge(const Counts& other) {
  images += other.images;
  top1 += other.top1;
  top5 += other.top5;
  loss += other.loss;
}

void Scores::merge(const Scores& other) {
  if (classes_.size() < other.classes_.size()) classes_.resize(other.classes_.size());
  for (std::size_t i = 0; i < other.classes_.size(); ++i) classes_[i].merge(other.classes_[i]);
}

Evaluation Scores::evaluation(const Counts& counts) {
  if (counts.images == 0) return {};
  const auto n = static_cast<double>(counts.images);
  return {.images = counts.images,
          .top1 = 100.0 * static_cast<double>(counts.top1) / n,
          .top5 = 100.0 * static_cast<double>(counts.top5) / n,
          .loss = counts.loss / n,
          .images_per_s = 0};
}

Scores::Counts Scores::all() const {
  Counts all;
  for (const Counts& c : classes_) all.merge(c);
  return all;
}

Evaluation Scores::result() const { return evaluation(all()); }

std::int64_t Scores::correct() const { return all().top1; }

Evaluation Scores::of_class(std::int32_t label) const {
  return evaluation(static_cast<std::size_t>(label) < classes_.size()
                        ? classes_[static_cast<std::size_t>(label)]
                        : Counts{});
}

}  // namespace faq
