#include "core/free_memory.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/rng.h"
#include "tests/catch.h"

using namespace faq;

namespace {

// Addresses of memory that nobody reads or writes.
std::byte* at(std::size_t offset) { return reinterpret_cast<std::byte*>(std::uintptr_t{0x10000} + offset); }

std::vector<std::pair<std::size_t, std::size_t>> all_of(FreeMemory& memory) {
  std::vector<std::pair<std::size_t, std::size_t>> all;
  for (const auto& [begin, size] : memory.take_all())
    all.emplace_back(static_cast<std::size_t>(begin - at(0)), size);
  return all;
}

}  // namespace

TEST_CASE("the smallest range that suffices is cut, of several the first", "[memory]") {
  FreeMemory memory;
  CHECK(memory.take(1) == nullptr);
  memory.add({at(0), 100});
  memory.add({at(500), 40});
  memory.add({at(300), 40});
  memory.add({at(700), 60});
  CHECK(memory.take(101) == nullptr);
  CHECK(memory.take(40) == at(300));
  CHECK(memory.take(40) == at(500));
  CHECK(memory.take(40) == at(700));  // of 60
  CHECK(memory.take(30) == at(0));
  CHECK(memory.take(20) == at(740));
  CHECK(all_of(memory) == std::vector<std::pair<std::size_t, std::size_t>>{{30, 70}});
  CHECK(memory.take(1) == nullptr);
}

TEST_CASE("free neighbours become one range", "[memory]") {
  std::array<int, 4> order{0, 1, 2, 3};
  do {
    FreeMemory memory;
    for (const int i : order) memory.add({at(static_cast<std::size_t>(i) * 10), 10});
    memory.add({at(41), 10});  // one byte away
    CHECK(all_of(memory) == std::vector<std::pair<std::size_t, std::size_t>>{{0, 40}, {41, 10}});
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("memory is never given out twice, and all come back", "[memory]") {
  constexpr std::size_t bytes = 400;
  Random random(1, RandomStream::test);
  FreeMemory memory;
  memory.add({at(0), bytes});
  std::array<bool, bytes> is_taken{};
  std::vector<MemoryRange> taken;
  const auto mark = [&](const MemoryRange& range, bool as) {
    const auto first = is_taken.begin() + (range.begin - at(0));
    CHECK(std::all_of(first, first + static_cast<std::ptrdiff_t>(range.size),
                      [&](bool marked) { return marked != as; }));
    std::fill_n(first, range.size, as);
  };
  const auto give_back = [&](std::size_t i) {
    mark(taken[i], false);
    memory.add(taken[i]);
    taken.erase(taken.begin() + static_cast<std::ptrdiff_t>(i));
  };
  const auto free_from = [&](std::size_t i) {
    return static_cast<std::size_t>(
               std::find(is_taken.begin() + static_cast<std::ptrdiff_t>(i), is_taken.end(), true) -
               is_taken.begin()) -
           i;
  };
  // The smallest run of free bytes that has as many; 0: none.
  const auto best = [&](std::size_t size) {
    std::size_t least = 0;
    for (std::size_t i = 0; i < bytes;) {
      const std::size_t run = free_from(i);
      if (run >= size && (least == 0 || run < least)) least = run;
      i += run + 1;
    }
    return least;
  };
  int refused = 0;
  for (int i = 0; i < 20'000; ++i) {
    if (random.below(2) == 0 && !taken.empty()) {
      give_back(random.below(static_cast<std::uint32_t>(taken.size())));
      continue;
    }
    const std::size_t size = 1 + random.below(random.below(8) == 0 ? 120 : 12);
    const std::size_t expected = best(size);
    std::byte* begin = memory.take(size);
    if (begin == nullptr) {
      ++refused;
      CHECK(expected == 0);
      continue;
    }
    CHECK(free_from(static_cast<std::size_t>(begin - at(0))) == expected);
    taken.push_back({begin, size});
    mark(taken.back(), true);
  }
  CHECK(refused > 100);
  while (!taken.empty()) give_back(taken.size() - 1);
  CHECK(all_of(memory) == std::vector<std::pair<std::size_t, std::size_t>>{{0, bytes}});
}
