#include "train/evaluate.h"

#include <fmt/format.h>

#include <chrono>

namespace faq {

double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor&)>& body, RunListener& listener,
                      const std::function<std::string()>& figures, const StopToken& stop) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const std::int64_t total = loader.batches_per_epoch();
  std::int64_t images = 0, batches = 0;
  const auto tell = [&] { listener.evaluating({batches, total, images, seconds(), figures}); };
  loader.start_epoch(0);
  tell();
  while (const auto batch = loader.next()) {
    check(!stop.stop_requested(), ErrorKind::stopped, "an evaluation was stopped, as requested");
    body(*batch, forward(batch->images));
    images += batch->size();
    ++batches;
    tell();
  }
  listener.evaluated();
  return static_cast<double>(images) / seconds();
}

Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, RunListener& listener,
                    const StopToken& stop) {
  const double rate = for_each_batch(
      forward, loader, [&](const Batch& batch, const Tensor& logits) { scores.add(logits, batch.labels); },
      listener, [&] { return fmt::format("top-1 {:.2f}", scores.result().top1); }, stop);
  Evaluation result = scores.result();
  result.images_per_s = rate;
  return result;
}

}  // namespace faq
