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
      deviations_(chunks_.count() * blocks_.channels()),
      taken_(chunks_.count()) {
  check(blocks_.rows() > 0, "batch statistics: no values in ", shape);
}

void StatisticsBuilder::take(const Tensor& x, std::int64_t chunk, std::vector<float>& scratch) {
  const std::int64_t channels = blocks_.channels();
  const std::int64_t length = blocks_.length();
  const std::int64_t n = chunks_.size(chunk);
  scratch.resize(static_cast<std::size_t>(chunks_.length() + 2 * length));
  float* values = scratch.data();
  float* sum = values + chunks_.length();
  float* mean = sum + length;
  const auto rows = static_cast<double>(n / channels);
  load_block(x, chunks_.offset(chunk), n, values);
  double* chunk_mean = &means_[chunk * channels];
  double* chunk_deviation = &deviations_[chunk * channels];
  std::fill_n(sum, length, 0.0f);
  for (std::int64_t i = 0; i < n; i += length) accumulate(sum, values + i, std::min(length, n - i));
  blocks_.fold(sum, length, chunk_mean);
  for (std::int64_t c = 0; c < channels; ++c) chunk_mean[c] /= rows;
  for (std::int64_t i = 0; i < length; ++i) mean[i] = static_cast<float>(chunk_mean[i % channels]);
  std::fill_n(sum, length, 0.0f);
  for (std::int64_t i = 0; i < n; i += length)
    accumulate_squared_deviation(sum, values + i, mean, std::min(length, n - i));
  blocks_.fold(sum, length, chunk_deviation);
  for (std::int64_t c = 0; c < channels; ++c) {  // deviations were taken from the f32 mean
    const double error = chunk_mean[c] - static_cast<double>(static_cast<float>(chunk_mean[c]));
    chunk_deviation[c] -= rows * error * error;
  }
  taken_[chunk] = 1;
}

void StatisticsBuilder::add(const Tensor& x, std::int64_t first, std::int64_t last) {
  const Booked booked(Work::fused);
  const std::int64_t rows_per_chunk = chunks_.length() / blocks_.channels();
  const std::int64_t begin = (first + rows_per_chunk - 1) / rows_per_chunk;
  const std::int64_t end = last == blocks_.rows() ? chunks_.count() : last / rows_per_chunk;
  parallel_for(end - begin, 1, [&](std::int64_t from, std::int64_t to) {
    std::vector<float> scratch;
    for (std::int64_t chunk = begin + from; chunk < begin + to; ++chunk) take(x, chunk, scratch);
  });
}

// Chan et al.'s formula, chunk by chunk.
ChannelStatistics StatisticsBuilder::finish(const Tensor& x, float step) {
  const Booked booked(Work::fused);
  parallel_for(chunks_.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> scratch;
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      if (!taken_[chunk]) take(x, chunk, scratch);
    }
  });
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
  return builder.finish(x, step_of(x));
}

}  // namespace faq::kernels
