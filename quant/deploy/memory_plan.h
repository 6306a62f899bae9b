// Where the values of a network lie while it runs: one block, known in size before the first image.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace faq {

/// A value of `bytes` that is there from scale `first` to scale `last`, both included.
struct Lifetime {
  std::int64_t bytes = 0;
  int first = 0;
  int last = 0;
};

struct MemoryPlan {
  std::vector<std::int64_t> offsets;  ///< of each value, a multiple of `alignment`
  std::int64_t bytes = 0;             ///< of the block
};

/// Values that are there at the same time do not overlap. Greedy by size: the largest first, each into the
/// tightest gap left (Pisarchyk & Lee, "Efficient Memory Management for Deep Neural Net Inference", 2020,
/// §5).
MemoryPlan plan_memory(std::span<const Lifetime> values, std::int64_t alignment = 64);

}  // namespace faq
