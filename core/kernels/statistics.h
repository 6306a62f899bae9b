// Mean and variance of a batch, as batch-norm wants them.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/block.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Per channel, f32, C elements each.
struct ChannelStatistics {
  Tensor mean;
  Tensor variance;         ///< biased (divided by the number of values)
  std::int64_t count = 0;  ///< values of each channel; 0 where it is not known

  /// Makes these the statistics of the values of both, as near as f32 holds the parts'. Nothing and other
  /// statistics are the other ones. Throws where the channels differ, or a count is not known.
  void merge(const ChannelStatistics& other);
};

/// Collects the statistics of a tensor that is filled row by row, while each part is still in the cache.
/// Chunks of fixed length are combined in order in double: the result depends neither on the number of
/// threads nor on how the tensor was filled.
class StatisticsBuilder {
 public:
  /// Of a tensor of this shape, over all dimensions but the last.
  explicit StatisticsBuilder(const Shape& shape);

  /// Rows [first, last) (of C values) of x are filled now: takes the chunks that lie within them. May be
  /// called for different rows by several threads.
  void add(const Tensor& x, std::int64_t first, std::int64_t last);
  /// All of x is filled: takes the chunks that are left. Returns mean and variance of values, not integers:
  /// of x·scale.
  ChannelStatistics finish(const Tensor& x, float scale);

 private:
  template <class X>
  void take(const X* x, std::int64_t chunk, std::vector<float>& scratch);
  void take(const Tensor& x, std::int64_t chunk, std::vector<float>& scratch);

  ChannelBlocks blocks_;
  Chunks chunks_{blocks_};

  // Per chunk: mean and sum of squared deviations.
  std::vector<double> means_, deviations_;
  std::vector<char> taken_;  ///< by chunk
};

/// The statistics of a whole tensor (f32, or integers with a scale).
ChannelStatistics channel_statistics(const Tensor& x);

}  // namespace faq::kernels
