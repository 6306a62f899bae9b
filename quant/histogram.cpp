#include "quant/histogram.h"

#include <algorithm>
#include <cmath>

namespace faq {
namespace {

// With a smaller range the bins would be too small for f32 to divide by. Every scale rounds such values to 0.
constexpr float least_range = 0x1p-116f;

bool same_but_for_doublings(float a, float b) {
  int ignored;
  return std::frexp(a, &ignored) == std::frexp(b, &ignored);
}

}  // namespace

void Histogram::add(const Tensor& values) {
  const float* x = values.data<float>();
  const std::int64_t n = values.numel();
  float largest = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::abs(x[i]));
    finite &= std::isfinite(x[i]);
  }
  check(finite, ErrorKind::bad_data, "calibration: an activation is not finite");
  cover(largest);
  max_ = std::max(max_, largest);
  count_ += n;
  if (range_ == 0) {  // nothing but zeros so far
    counts_[0] += n;
    return;
  }
  const float scale = static_cast<float>(bins) / range_;
  for (std::int64_t i = 0; i < n; ++i) {
    ++counts_[std::min(bins - 1, static_cast<int>(std::abs(x[i]) * scale))];
  }
}

void Histogram::cover(float magnitude) {
  if (magnitude == 0) return;
  if (range_ == 0) range_ = std::max(magnitude, least_range);
  while (magnitude > range_) double_range();
}

void Histogram::double_range() {
  for (int i = 0; i < bins / 2; ++i) counts_[i] = counts_[2 * i] + counts_[2 * i + 1];
  std::fill(counts_.begin() + bins / 2, counts_.end(), 0);
  range_ *= 2;
}

void Histogram::merge(const Histogram& other) {
  if (range_ == 0) range_ = other.range_;  // zeros are in the first bin whatever the range
  max_ = std::max(max_, other.max_);
  count_ += other.count_;
  Histogram folded = other;
  if (folded.range_ == 0) folded.range_ = range_;
  if (same_but_for_doublings(range_, folded.range_)) {
    while (range_ < folded.range_) double_range();
    while (folded.range_ < range_) folded.double_range();
    for (int i = 0; i < bins; ++i) counts_[i] += folded.counts_[i];
    return;
  }
  cover(other.max_);
  const double bins_of_one = static_cast<double>(other.range_) / range_;
  for (int i = 0; i < bins; ++i)
    counts_[std::min(bins - 1, static_cast<int>((i + 0.5) * bins_of_one))] += other.counts_[i];
}

float Histogram::percentile(double percent) const {
  const double wanted = percent / 100.0 * static_cast<double>(count_);
  std::int64_t reached = 0;
  for (int i = 0; i < bins; ++i) {
    reached += counts_[i];
    if (static_cast<double>(reached) >= wanted)
      return std::min(max_, static_cast<float>(i + 1) * range_ / bins);
  }
  return max_;
}

double Histogram::squared_error(const FixedPoint& format) const {
  double error = 0;
  for (int i = 0; i < bins; ++i) {
    if (counts_[i] == 0) continue;
    const double x = (i + 0.5) * range_ / bins;
    const double q =
        std::min(round_half_even(x / format.scale), static_cast<double>(format.max())) * format.scale;
    error += static_cast<double>(counts_[i]) * (x - q) * (x - q);
  }
  return error;
}

}  // namespace faq
