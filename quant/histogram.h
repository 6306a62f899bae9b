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
  /// Makes the range what it would be if a value of this magnitude had been seen.
  void cover(float magnitude);
  /// Adds what `other` has counted. Parts of the values whose histograms began with the same cover() merge to
  /// the histogram of them all, bin by bin, in any order: their ranges are that magnitude times powers of
  /// two, and bins are folded as add() folds them. (One value may be a bin lower or higher: one that is
  /// exactly the upper edge of a range, as add() counts it in the last bin.) If the ranges have nothing to do
  /// with each other, this one is kept or doubled, and a bin of `other` counts where its middle lies.
  void merge(const Histogram& other);

  std::int64_t count() const { return count_; }
  float max() const { return max_; }
  /// How many magnitudes each bin has, and the upper edge of the last one; 0 while all were zeros.
  const std::vector<std::int64_t>& counts() const { return counts_; }
  float range() const { return range_; }
  /// The upper edge of the bin in which `percent` % of the magnitudes are reached, at most max().
  float percentile(double percent) const;
  /// Σ (x − Q(x))² with every value taken at the middle of its bin.
  double squared_error(const FixedPoint& format) const;

 private:
  void double_range();

  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(bins);
  float range_ = 0;
  float max_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace faq
