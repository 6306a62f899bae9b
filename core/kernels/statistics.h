// Mean and variance of a batch, for batch-norm.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/block.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Per channel, f32, C elements each.
struct ChannelStatistics {
  Tensor mean;
  Tensor variance;  ///< biased (divided by the number of values)
};

/// Collects the statistics of a tensor while it is filled row by row, so each part is still in the cache.
/// Chunks of fixed length are combined in order, in double. So the result depends neither on the number of
/// threads nor on how the tensor was filled.
class StatisticsBuilder {
 public:
  /// Statistics of a tensor of this shape, over all dimensions but the last.
  explicit StatisticsBuilder(const Shape& shape);

  /// Tells that rows [first, last) (of C values) of x are filled, and processes the chunks inside them.
  /// Thread-safe for different rows.
  void add(const Tensor& x, std::int64_t first, std::int64_t last);
  /// Tells that all of x is filled, and processes the remaining chunks. Returns mean and variance of the real
  /// values x·scale, not of the integers.
  ChannelStatistics finish(const Tensor& x, float scale);

 private:
  template <class X>
  void take(const X* x, std::int64_t chunk, AlignedVector<float>& scratch);
  void take(const Tensor& x, std::int64_t chunk, AlignedVector<float>& scratch);

  ChannelBlocks blocks_;
  Chunks chunks_{blocks_};

  // Per chunk: mean and sum of squared deviations.
  ChunkValues means_{chunks_.count(), blocks_.channels()}, deviations_{chunks_.count(), blocks_.channels()};
  std::vector<char> taken_;  ///< for each chunk
};

/// The statistics of a whole tensor (f32, or integers with a scale).
ChannelStatistics channel_statistics(const Tensor& x);

}  // namespace faq::kernels
