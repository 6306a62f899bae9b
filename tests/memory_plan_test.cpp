#include "quant/deploy/memory_plan.h"

#include "tests/testing.h"

using namespace faq;

namespace {

bool meet(const Lifetime& a, const Lifetime& b) { return a.first <= b.last && b.first <= a.last; }

// The most that is there at any step: no plan takes less.
std::int64_t bound(const std::vector<Lifetime>& values, std::int64_t alignment) {
  std::int64_t most = 0;
  for (const Lifetime& at : values) {
    std::int64_t there = 0;
    for (const Lifetime& v : values)
      if (v.first <= at.first && at.first <= v.last)
        there += (v.bytes + alignment - 1) / alignment * alignment;
    most = std::max(most, there);
  }
  return most;
}

void check_plan(const std::vector<Lifetime>& values, const MemoryPlan& plan, std::int64_t alignment) {
  REQUIRE(plan.offsets.size() == values.size());
  for (std::size_t i = 0; i < values.size(); ++i) {
    CHECK(plan.offsets[i] >= 0);
    CHECK(plan.offsets[i] % alignment == 0);
    CHECK(plan.offsets[i] + values[i].bytes <= plan.bytes);
    for (std::size_t j = 0; j < i; ++j) {
      const bool apart = plan.offsets[i] + values[i].bytes <= plan.offsets[j] ||
                         plan.offsets[j] + values[j].bytes <= plan.offsets[i];
      CHECK((apart || !meet(values[i], values[j])));
    }
  }
  CHECK(plan.bytes >= bound(values, alignment));
}

}  // namespace

TEST_CASE("a memory plan keeps apart what is there at the same time", "[memory]") {
  struct Row {
    const char* what;
    std::vector<Lifetime> values;
    std::int64_t bytes;  // of the best plan, by hand, at an alignment of 1
  };
  const Row rows[] = {
      {"nothing", {}, 0},
      {"one", {{5, 0, 3}}, 5},
      {"a chain needs two at a time", {{4, 0, 1}, {6, 1, 2}, {3, 2, 3}, {8, 3, 4}}, 11},
      {"a residual stays", {{8, 0, 3}, {8, 1, 2}, {8, 2, 3}, {8, 3, 4}}, 32 - 8},
      {"into the gap the first left", {{4, 0, 1}, {10, 0, 9}, {4, 2, 3}, {3, 4, 5}}, 14},
      // With the first gap that fits instead it would be 53.
      {"into the tightest gap",
       {{4, 0, 5}, {10, 0, 3}, {10, 3, 5}, {12, 0, 1}, {12, 0, 4}, {11, 1, 2}, {4, 2, 3}},
       49},
      {"a value of no bytes", {{0, 0, 2}, {7, 1, 2}}, 7},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const MemoryPlan plan = plan_memory(row.values, 1);
    check_plan(row.values, plan, 1);
    CHECK(plan.bytes == row.bytes);
  }
}

TEST_CASE("memory plans of random networks", "[memory]") {
  double sum = 0;
  for (std::uint64_t trial = 0; trial < 200; ++trial) {
    INFO(trial);
    Random random(7, RandomStream::test, trial);
    const auto below = [&](std::uint32_t bound) { return static_cast<int>(random.below(bound)); };
    const int steps = 1 + below(30);
    std::vector<Lifetime> values;
    for (int i = 0; i < steps; ++i) values.push_back({below(1000), i, std::min(steps, i + 1 + below(4))});
    const MemoryPlan plan = plan_memory(values);
    check_plan(values, plan, 64);
    sum +=
        static_cast<double>(plan.bytes) / static_cast<double>(std::max<std::int64_t>(bound(values, 64), 1));
  }
  CHECK(sum / 200 < 1.1);  // how near the heuristic comes to the bound
}
