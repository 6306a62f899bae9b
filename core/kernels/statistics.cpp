#include "core/kernels/statistics.h"

#include <algorithm>
#include <vector>

#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void accumulate(float* sum, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += x[i];
}
FAQ_SIMD void accumulate_squared_deviation(float* sum, const float* x, const float* mean, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
}

}  // namespace

StatisticsBuilder::StatisticsBuilder(const Shape& shape)
    : blocks_(shape),
      means_(chunks_.count() * blocks_.channels()),
      deviations_(chunks_.count() * blocks_.channels()) {
  check(blocks_.rows() > 0, "batch statistics: no values in ", shape);
}

void StatisticsBuilder::add(const Tensor& x, std::int64_t rows) {
  const Booked booked(Work::fused);
  const std::int64_t channels = blocks_.channels();
  const std::int64_t length = blocks_.length();
  const std::int64_t complete = rows == blocks_.rows() ? chunks_.count() : rows * channels / chunks_.length();
  const std::int64_t first_chunk = next_chunk_;
  parallel_for(complete - first_chunk, 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values(chunks_.length()), sum(length), mean(length);
    for (std::int64_t chunk = first_chunk + begin; chunk < first_chunk + end; ++chunk) {
      const std::int64_t n = chunks_.size(chunk);
      const auto chunk_rows = static_cast<double>(n / channels);
      load_block(x, chunks_.offset(chunk), n, values.data());
      double* chunk_mean = &means_[chunk * channels];
      double* chunk_deviation = &deviations_[chunk * channels];
      std::ranges::fill(sum, 0.0f);
      for (std::int64_t i = 0; i < n; i += length)
        accumulate(sum.data(), &values[i], std::min(length, n - i));
      blocks_.fold(sum.data(), length, chunk_mean);
      for (std::int64_t c = 0; c < channels; ++c) chunk_mean[c] /= chunk_rows;
      for (std::int64_t i = 0; i < length; ++i) mean[i] = static_cast<float>(chunk_mean[i % channels]);
      std::ranges::fill(sum, 0.0f);
      for (std::int64_t i = 0; i < n; i += length)
        accumulate_squared_deviation(sum.data(), &values[i], mean.data(), std::min(length, n - i));
      blocks_.fold(sum.data(), length, chunk_deviation);
      for (std::int64_t c = 0; c < channels; ++c) {  // deviations were taken from the f32 mean
        const double error = chunk_mean[c] - static_cast<double>(static_cast<float>(chunk_mean[c]));
        chunk_deviation[c] -= chunk_rows * error * error;
      }
    }
  });
  next_chunk_ = std::max(next_chunk_, complete);
}

// Chan et al.'s formula, chunk by chunk.
ChannelStatistics StatisticsBuilder::result(float step) const {
  check(next_chunk_ == chunks_.count(), "batch statistics: ", next_chunk_, " of ", chunks_.count(),
        " chunks were added");
  const std::int64_t channels = blocks_.channels();
  const auto total_rows = static_cast<double>(blocks_.rows());
  ChannelStatistics statistics{Tensor::empty({channels}), Tensor::empty({channels})};
  float* mean_out = statistics.mean.mutable_data<float>();
  float* variance_out = statistics.variance.mutable_data<float>();
  parallel_for(channels, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      double count = 0, mean = 0, deviation = 0;
      for (std::int64_t chunk = 0; chunk < chunks_.count(); ++chunk) {
        const auto rows = static_cast<double>(chunks_.size(chunk) / channels);
        const double delta = means_[chunk * channels + c] - mean;
        const double together = count + rows;
        mean += delta * rows / together;
        deviation += deviations_[chunk * channels + c] + delta * delta * count * rows / together;
        count = together;
      }
      mean_out[c] = static_cast<float>(mean * step);
      variance_out[c] =
          static_cast<float>(std::max(0.0, deviation / total_rows) * static_cast<double>(step) * step);
    }
  });
  return statistics;
}

ChannelStatistics channel_statistics(const Tensor& x) {
  StatisticsBuilder builder(x.shape());
  builder.add(x, x.numel() / x.dim(x.rank() - 1));
  return builder.result(step_of(x));
}

}  // namespace faq::kernels
