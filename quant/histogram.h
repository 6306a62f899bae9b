// Streaming histograms: calibration sees every activation once and keeps none.
#pragma once

#include <cstdint>
#include <vector>

#include "core/fixed_point.h"
#include "core/tensor.h"

namespace faq {

/// Counts of magnitudes |x| in 2048 equal bins. The range doubles (neighbouring bins are merged) when a
/// larger value arrives, so one pass is enough. Throws bad_data for a value that is not finite.
class Histogram {
 public:
  static constexpr int bins = 2048;

  void add(const Tensor& values);

  std::int64_t count() const { return count_; }
  float max() const { return max_; }
  /// The upper edge of the bin in which `percent` % of the magnitudes are reached, at most max().
  float percentile(double percent) const;
  /// Σ (x − Q(x))² with every value taken at the middle of its bin.
  double squared_error(const FixedPoint& format) const;

 private:
  void grow_to(float magnitude);

  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(bins);
  float range_ = 0;  // upper edge of the last bin
  float max_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace faq
