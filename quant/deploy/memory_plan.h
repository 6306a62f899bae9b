// Where the values of a network lie in memory while it runs. There is one block, and its size is known before
// the first image.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace faq {

/// A value of `bytes` bytes that is needed from op `first` to op `last`, both included.
struct Lifetime {
  std::int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<std::int64_t> offsets;  ///< of each value in the block; a multiple of `alignment`
  std::int64_t bytes = 0;             ///< of the block
};

/// Plans the block. Values that are needed at the same time do not overlap. Greedy by size: the largest value
/// first, each in the smallest gap it fits into (Pisarchyk & Lee, "Efficient Memory Management for Deep
/// Neural Net Inference", 2020, §5).
MemoryPlan plan_memory(std::span<const Lifetime> values, std::int64_t alignment = 64);

}  // namespace faq
