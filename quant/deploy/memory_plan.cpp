#include "quant/deploy/memory_plan.h"

#include <algorithm>
#include <numeric>

#include "core/division.h"

namespace faq {
namespace {

bool meet(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

}  // namespace

MemoryPlan plan_memory(std::span<const Lifetime> values, std::int64_t alignment) {
  const auto aligned = [&](std::int64_t bytes) { return multiple_of(alignment, bytes); };
  std::vector<std::size_t> by_size(values.size());
  std::iota(by_size.begin(), by_size.end(), std::size_t{0});
  std::ranges::stable_sort(by_size, std::ranges::greater{}, [&](std::size_t i) { return values[i].bytes; });

  MemoryPlan plan{std::vector<std::int64_t>(values.size()), 0};
  std::vector<std::size_t> placed;  // by offset
  for (const std::size_t value : by_size) {
    const std::int64_t wanted = aligned(values[value].bytes);
    std::int64_t free_from = 0, best = -1, best_gap = 0;
    for (const std::size_t other : placed) {
      if (!meet(values[value], values[other])) continue;
      const std::int64_t gap = plan.offsets[other] - free_from;
      if (gap >= wanted && (best < 0 || gap < best_gap)) {
        best = free_from;
        best_gap = gap;
      }
      free_from = std::max(free_from, plan.offsets[other] + aligned(values[other].bytes));
    }
    const std::int64_t offset = best < 0 ? free_from : best;
    plan.offsets[value] = offset;
    plan.bytes = std::max(plan.bytes, offset + wanted);
    placed.insert(
        std::ranges::upper_bound(placed, offset, {}, [&](std::size_t i) { return plan.offsets[i]; }), value);
  }
  return plan;
}

}  // namespace faq
