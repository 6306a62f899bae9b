#include "core/kernels/statistics.h"

#include <algorithm>
#include <initializer_list>
#include <vector>

#include "core/division.h"
#include "core/kernels/element.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

template <class X>
[[gnu::always_inline]] inline void accumulate_loop(const X* x, const float* shift, float* __restrict sum,
                                                   float* __restrict squares, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float deviation = element(x, i) - shift[i];
    sum[i] += deviation;
    squares[i] += deviation * deviation;
  }
}
#define FAQ_ACCUMULATE(X)                                                                                \
  FAQ_SIMD void accumulate(const X* x, const float* shift, float* sum, float* squares, std::int64_t n) { \
    accumulate_loop(x, shift, sum, squares, n);                                                          \
  }
FAQ_ACCUMULATE(float)
FAQ_ACCUMULATE(bfloat16)
FAQ_ACCUMULATE(std::int32_t)
FAQ_ACCUMULATE(std::int16_t)
FAQ_ACCUMULATE(std::int8_t)
FAQ_ACCUMULATE(std::uint8_t)
#undef FAQ_ACCUMULATE

// Of n channels: their means, and the sums of squared deviations from them.
struct Moments {
  double* mean;
  double* deviation;
};

// Merges the moments of `others` values a channel into those of `count`, by the formula of Chan et al.
FAQ_SIMD void merge(double count, Moments all, double others, const double* __restrict mean,
                    const double* __restrict deviation, std::int64_t n) {
  const double together = count + others;
  for (std::int64_t c = 0; c < n; ++c) {
    const double delta = mean[c] - all.mean[c];
    all.mean[c] += delta * others / together;
    all.deviation[c] += deviation[c] + delta * delta * count * others / together;
  }
}

}  // namespace

StatisticsBuilder::StatisticsBuilder(const Shape& shape) : blocks_(shape), taken_(chunks_.count()) {
  check(blocks_.rows() > 0, "batch statistics: no values in ", shape);
}

// One pass. Deviations are taken from the chunk's first row, which is close enough to the mean for f32 to
// hold a few hundred squares. The mean is corrected in double. (If the first row is far from the mean, it
// makes most of the chunk's variance itself.)
template <class X>
void StatisticsBuilder::take(const X* x, std::int64_t chunk, AlignedVector<float>& scratch) {
  const std::int64_t channels = blocks_.channels();
  const std::int64_t length = blocks_.length();
  const std::int64_t n = chunks_.size(chunk);
  const auto rows = static_cast<double>(n / channels);
  x += chunks_.offset(chunk);
  scratch.assign(static_cast<std::size_t>(3 * length + channels), 0.0f);
  float* sum = scratch.data();
  float* squares = sum + length;
  float* shift = squares + length;
  float* first_row = shift + length;
  for (std::int64_t c = 0; c < channels; ++c) first_row[c] = element(x, c);
  blocks_.repeat(first_row, shift);
  for (std::int64_t i = 0; i < n; i += length)
    accumulate(x + i, shift, sum, squares, std::min(length, n - i));
  double* mean = means_.of(chunk);
  double* deviation = deviations_.of(chunk);
  blocks_.fold(sum, length, mean);
  blocks_.fold(squares, length, deviation);
  for (std::int64_t c = 0; c < channels; ++c) {
    const double from_shift = mean[c] / rows;
    mean[c] = from_shift + shift[c];
    deviation[c] -= rows * from_shift * from_shift;
  }
  taken_[chunk] = 1;
}

void StatisticsBuilder::take(const Tensor& x, std::int64_t chunk, AlignedVector<float>& scratch) {
  switch (x.dtype()) {
    case DType::f32:
      return take(x.data<float>(), chunk, scratch);
    case DType::bf16:
      return take(x.data<bfloat16>(), chunk, scratch);
    case DType::s32:
      return take(x.data<std::int32_t>(), chunk, scratch);
    case DType::s16:
      return take(x.data<std::int16_t>(), chunk, scratch);
    case DType::s8:
      return take(x.data<std::int8_t>(), chunk, scratch);
    case DType::u8:
      return take(x.data<std::uint8_t>(), chunk, scratch);
  }
}

void StatisticsBuilder::add(const Tensor& x, std::int64_t first, std::int64_t last) {
  const Booked booked(Work::fused);
  const std::int64_t rows_per_chunk = chunks_.length() / blocks_.channels();
  const std::int64_t begin = divided_up(first, rows_per_chunk);
  const std::int64_t end = last == blocks_.rows() ? chunks_.count() : last / rows_per_chunk;
  parallel_for(end - begin, 1, [&](std::int64_t from, std::int64_t to) {
    AlignedVector<float> scratch;
    for (std::int64_t chunk = begin + from; chunk < begin + to; ++chunk) take(x, chunk, scratch);
  });
}

ChannelStatistics StatisticsBuilder::finish(const Tensor& x, float scale) {
  const Booked booked(Work::fused);
  parallel_for(chunks_.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<float> scratch;
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
    std::vector<double> mean(static_cast<std::size_t>(end - begin)), deviation(mean.size());
    double rows = 0;
    for (std::int64_t chunk = 0; chunk < chunks_.count(); ++chunk) {
      const auto of_chunk = static_cast<double>(chunks_.size(chunk) / channels);
      merge(rows, {mean.data(), deviation.data()}, of_chunk, means_.of(chunk) + begin,
            deviations_.of(chunk) + begin, end - begin);
      rows += of_chunk;
    }
    for (std::int64_t c = begin; c < end; ++c) {
      mean_out[c] = static_cast<float>(mean[c - begin] * scale);
      variance_out[c] = static_cast<float>(std::max(0.0, deviation[c - begin] / total_rows) *
                                           static_cast<double>(scale) * scale);
    }
  });
  return statistics;
}

ChannelStatistics channel_statistics(const Tensor& x) {
  StatisticsBuilder builder(x.shape());
  return builder.finish(x, scale_of(x));
}

}  // namespace faq::kernels
