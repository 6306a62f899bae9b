#include "train/evaluate.h"

#include <fmt/format.h>

#include <chrono>

#include "core/kernels/loss.h"
#include "train/signals.h"

namespace faq {

void Scores::add(const Tensor& logits, std::span<const std::int32_t> labels) {
  const std::vector<double> losses =
      kernels::cross_entropy(logits, labels, 0.0f).losses;  // and checks labels
  const std::int64_t classes = logits.dim(1);
  classes_.resize(static_cast<std::size_t>(classes));
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto n = static_cast<std::int64_t>(i);
    const float* row = logits.data<float>() + n * classes;
    const std::int32_t label = labels[i];
    std::int64_t rank = 0;
    for (std::int64_t k = 0; k < classes; ++k) {
      // A logit that is not a number is never the larger one.
      if (k != label && !(row[label] > row[k] || (row[label] == row[k] && label < k))) ++rank;
    }
    Counts& counts = classes_.at(static_cast<std::size_t>(label));
    ++counts.images;
    counts.top1 += rank < 1;
    counts.top5 += rank < 5;
    counts.loss += losses[i];
  }
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
  for (const Counts& c : classes_) {
    all.images += c.images;
    all.top1 += c.top1;
    all.top5 += c.top5;
    all.loss += c.loss;
  }
  return all;
}

Evaluation Scores::result() const { return evaluation(all()); }

std::int64_t Scores::correct() const { return all().top1; }

Evaluation Scores::of_class(std::int32_t label) const {
  return evaluation(static_cast<std::size_t>(label) < classes_.size()
                        ? classes_[static_cast<std::size_t>(label)]
                        : Counts{});
}

double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor&)>& body, ProgressDisplay& display,
                      const std::function<std::string()>& figures) {
  const auto start = std::chrono::steady_clock::now();
  const auto rate = [&, start](std::int64_t done) {
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    return static_cast<double>(done) / elapsed.count();
  };
  const std::int64_t total = loader.batches_per_epoch();
  std::int64_t images = 0, batches = 0;
  loader.start_epoch(0);
  display.start();
  while (const auto batch = loader.next()) {
    check(!stop_requested(), ErrorKind::stopped, "stopped by a signal while evaluating");
    body(*batch, forward(batch->images));
    images += batch->size();
    ++batches;
    if (display.due(seconds_between_lines))
      display.update({.title = "evaluating, batch",
                      .done = batches,
                      .total = total,
                      .seconds_left = static_cast<double>(total - batches) / rate(batches),
                      .figures = {figures(), fmt::format("{:.0f} images/s", rate(images))}});
  }
  display.clear();
  return rate(images);
}

Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, ProgressDisplay& display) {
  const double rate = for_each_batch(
      forward, loader, [&](const Batch& batch, const Tensor& logits) { scores.add(logits, batch.labels); },
      display, [&] { return fmt::format("top-1 {:.2f}", scores.result().top1); });
  Evaluation result = scores.result();
  result.images_per_s = rate;
  return result;
}

}  // namespace faq
