#include "quant/deploy/c_places.h"

#include <cstddef>
#include <span>

#include "core/division.h"
#include "quant/deploy/memory_plan.h"

namespace faq {
namespace {

// A filter, unpacked. A classifier that reads sums has their integers behind it.
std::int64_t scratch_bytes(const IntegerNetwork::Node& node, std::span<const TensorInfo> results) {
  const QuantizedWeights* weights = weights_of(*node.op);
  if (!weights) return 0;
  const std::int64_t filter = weights->values.numel() / weights->values.dim(0);
  const int input = node.inputs[0];
  const bool reads_sums = input > 0 && results[static_cast<std::size_t>(input) - 1].dtype == DType::s32;
  return reads_sums ? 2 * filter : filter;
}

}  // namespace

CPlaces c_places(const IntegerNetwork& network) {
  constexpr std::int64_t word = 4;
  const std::vector<IntegerNetwork::Node>& nodes = network.nodes();
  const auto count = nodes.size();
  std::vector<Lifetime> lifetimes;
  for (std::size_t i = 0; i < count; ++i) {
    const int at = static_cast<int>(i);
    const bool is_last = i + 1 == count;
    lifetimes.push_back({is_last ? 0 : network.results()[i].bytes(), at, at});
    for (const int input : nodes[i].inputs)
      if (input > 0) lifetimes[static_cast<std::size_t>(input) - 1].last = at;
  }
  for (std::size_t i = 0; i < count; ++i)
    lifetimes.push_back(
        {scratch_bytes(nodes[i], network.results()), static_cast<int>(i), static_cast<int>(i)});
  const MemoryPlan plan = plan_memory(lifetimes, word);
  CPlaces places;
  const auto split = plan.offsets.begin() + static_cast<std::ptrdiff_t>(count);
  places.values.assign(plan.offsets.begin(), split);
  places.scratch.assign(split, plan.offsets.end());
  places.bytes = multiple_of(word, plan.bytes);
  return places;
}

}  // namespace faq
