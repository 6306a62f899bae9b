#include "train/evaluate.h"

#include <fmt/format.h>

#include <chrono>

#include "train/agreed_stop.h"
#include "train/ranks/remote_error.h"

namespace faq {

double for_each_batch(const Forward& forward, Loader& loader,
                      const std::function<void(const Batch&, const Tensor&)>& body, RunListener& listener,
                      const std::function<std::string()>& figures, const StopToken& stop,
                      Communicator& ranks) {
  const auto start = std::chrono::steady_clock::now();
  const auto seconds = [start] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  };
  const std::int64_t total = loader.batches_per_epoch();
  std::int64_t images = 0, batches = 0;
  const auto tell = [&] { listener.evaluating({batches, total, images, seconds(), figures}); };
  loader.start_epoch(0);
  tell();
  AgreedStop agreed(ranks, stop);
  // A rank may have a batch less than others. It takes part in their agreement.
  for (std::int64_t round = 0; round < loader.rounds_per_epoch(); ++round) {
    const auto batch = loader.next();
    check(!agreed.requested(), ErrorKind::stopped, "an evaluation was stopped, as requested");
    if (!batch) continue;
    body(*batch, forward(batch->images));
    images += batch->size();
    ++batches;
    tell();
  }
  const double took = seconds();
  listener.evaluated();
  const auto of_all = ranks.start_sum({images, loader.skipped()}).get();
  const auto unusable = loader.skipped_samples();
  check_agreed(of_all[0] > 0, ErrorKind::bad_data, "an evaluation of no images: none of the ", of_all[1],
               " can be used", unusable.empty() ? "" : ", the first: " + unusable.front().second);
  return took;
}

Evaluation evaluate(const Forward& forward, Loader& loader, Scores& scores, RunListener& listener,
                    const StopToken& stop, Communicator& ranks) {
  const double seconds = for_each_batch(
      forward, loader, [&](const Batch& batch, const Tensor& logits) { scores.add(logits, batch.labels); },
      listener, [&] { return fmt::format("top-1 {:.2f}", scores.result().top1); }, stop, ranks);
  if (ranks.size() > 1) {
    const std::int64_t classes = ranks.start_max({scores.classes()}).get().front();
    scores = Scores::from_counts(ranks.start_sum(scores.to_counts(classes)).get());
  }
  Evaluation result = scores.result();
  result.images_per_s = static_cast<double>(result.images) / seconds;
  return result;
}

}  // namespace faq
