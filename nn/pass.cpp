#include "nn/pass.h"

namespace faq {

void keep(const Pass& pass, NormState& norm, LearnedStatistics learned) {
  if (pass.statistics && learned.mean) pass.statistics->add(norm, std::move(learned));
}

void update_running_statistics(const BatchStatistics& batch, std::optional<float> momentum) {
  for (const BatchStatistics::Entry& entry : batch.entries())
    update_running(*entry.norm, entry.learned, momentum.value_or(entry.norm->momentum));
}

Pass training_pass(RandomKeys keys, BatchStatistics* statistics, PrecisionPlan precision) {
  return {.mode = Pass::Mode::training,
          .normalize = Pass::Normalize::with_batch,
          .keys = std::move(keys),
          .precision = std::move(precision),
          .statistics = statistics};
}

}  // namespace faq
