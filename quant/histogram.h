// Streaming histograms. Calibration sees every activation once and stores none.
#pragma once

#include <cstdint>
#include <vector>

#include "core/fixed_point.h"
#include "core/tensor.h"

namespace faq {

/// Counts magnitudes |x| in 2048 equal bins. When a larger value arrives, the range doubles and neighbouring
/// bins are merged, so one pass is enough. add() throws bad_data for a value that is not finite.
class Histogram {
 public:
  static constexpr int bins = 2048;

  void add(const Tensor& values);
  /// Extends the range as if a value of this magnitude had been added. Counts nothing.
  void cover(float magnitude);
  /// Adds the counts of `other`.
  ///
  /// Parts whose histograms began with the same cover() merge exactly, bin by bin and in any order, to the
  /// histogram of all values. Their ranges are that magnitude times powers of two, and merge() folds bins as
  /// add() does. (One exception: a value exactly at the upper edge of a range is counted in the last bin by
  /// add(), so it may be one bin lower or higher.)
  ///
  /// If the ranges are unrelated, this range is kept or doubled, and each bin of `other` is counted where its
  /// middle lies.
  void merge(const Histogram& other);

  std::int64_t count() const { return count_; }
  float max() const { return max_; }
  /// counts(): the number of magnitudes in each bin. range(): the upper edge of the last bin; 0 while all
  /// values were 0.
  const std::vector<std::int64_t>& counts() const { return counts_; }
  float range() const { return range_; }
  /// The upper edge of the bin in which `percent` % of the magnitudes are reached; at most max().
  float percentile(double percent) const;
  /// Σ (x − Q(x))², where every value is taken at the middle of its bin.
  double squared_error(const FixedPoint& format) const;

 private:
  void double_range();

  std::vector<std::int64_t> counts_ = std::vector<std::int64_t>(bins);
  float range_ = 0;
  float max_ = 0;
  std::int64_t count_ = 0;
};

}  // namespace faq
