#include "nn/pass.h"

#include <algorithm>

namespace faq {

void keep(const Pass& pass, NormState& norm, LearnedStatistics learned) {
  if (pass.statistics && learned.mean) pass.statistics->add(norm, std::move(learned));
}

Tensor BatchStatistics::as_sums(std::span<NormState* const> norms) const {
  std::int64_t size = 0;
  for (const NormState* norm : norms) size += 1 + 2 * norm->running_mean.numel();
  Tensor sums = Tensor::zeros({std::max<std::int64_t>(size, 1)});
  float* out = sums.mutable_data<float>();
  for (const NormState* norm : norms) {
    const std::int64_t channels = norm->running_mean.numel();
    for (const Entry& entry : entries_) {
      if (entry.norm != norm) continue;
      out[0] += 1;
      const float unbias = unbiasing(entry.learned);
      for (std::int64_t c = 0; c < channels; ++c) {
        out[1 + c] += entry.learned.mean.data<float>()[c];
        out[1 + channels + c] += unbias * entry.learned.variance.data<float>()[c];
      }
    }
    out += 1 + 2 * channels;
  }
  return sums;
}

BatchStatistics BatchStatistics::from_sums(const Tensor& sums, std::span<NormState* const> norms) {
  BatchStatistics means;
  const float* in = sums.data<float>();
  for (NormState* norm : norms) {
    const std::int64_t channels = norm->running_mean.numel();
    if (in[0] > 0) {
      // Of one value per channel, so that nothing is unbiased again.
      LearnedStatistics mean{Tensor::empty({channels}), Tensor::empty({channels}), 1};
      for (std::int64_t c = 0; c < channels; ++c) {
        mean.mean.mutable_data<float>()[c] = in[1 + c] / in[0];
        mean.variance.mutable_data<float>()[c] = in[1 + channels + c] / in[0];
      }
      means.add(*norm, std::move(mean));
    }
    in += 1 + 2 * channels;
  }
  return means;
}

void update_running_statistics(const BatchStatistics& batch, std::optional<float> momentum) {
  for (const BatchStatistics::Entry& entry : batch.entries())
    update_running(*entry.norm, entry.learned, momentum.value_or(entry.norm->momentum));
}

Pass training_pass(RandomKeys keys, BatchStatistics* statistics, GradFormat grad_format,
                   PrecisionPlan precision) {
  return {.mode = Pass::Mode::training,
          .normalize = Pass::Normalize::with_batch,
          .keys = std::move(keys),
          .precision = std::move(precision),
          .grad_format = grad_format,
          .statistics = statistics};
}

}  // namespace faq
