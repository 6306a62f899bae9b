#include "train/evaluate.h"

#include <chrono>

#include "core/kernels/loss.h"

namespace faq {

void Scores::add(const Tensor& logits, std::span<const std::int32_t> labels) {
  const std::int64_t classes = logits.dim(1);
  loss_ += kernels::cross_entropy(logits, labels, 0.0f).loss * static_cast<double>(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const float* row = logits.data<float>() + static_cast<std::int64_t>(i) * classes;
    const std::int32_t label = labels[i];
    std::int64_t rank = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
      // A logit that is not a number is never the larger one.
      if (k != label && !(row[label] > row[k] || (row[label] == row[k] && label < k))) ++rank;
    }
    top1_ += rank < 1;
    top5_ += rank < 5;
  }
  images_ += static_cast<std::int64_t>(labels.size());
}

Evaluation Scores::result() const {
  if (images_ == 0) return {};
  const auto n = static_cast<double>(images_);
  return {.images = images_,
          .top1 = 100.0 * static_cast<double>(top1_) / n,
          .top5 = 100.0 * static_cast<double>(top5_) / n,
          .loss = loss_ / n,
          .images_per_s = 0};
}

Evaluation evaluate(const std::function<Tensor(const Tensor&)>& forward, Loader& loader) {
  const auto start = std::chrono::steady_clock::now();
  Scores scores;
  loader.start_epoch(0);
  while (const auto batch = loader.next()) scores.add(forward(batch->images), batch->labels);
  Evaluation result = scores.result();
  const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  result.images_per_s = static_cast<double>(result.images) / elapsed.count();
  return result;
}

}  // namespace faq
