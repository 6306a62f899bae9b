#include "core/extents.h"

#include <algorithm>
#include <array>
#include <cstdint>

#include "core/rng.h"
#include "tests/catch.h"

using namespace faq;

namespace {

// Addresses of memory that nobody reads or writes.
std::byte* at(std::size_t offset) { return reinterpret_cast<std::byte*>(std::uintptr_t{0x10000} + offset); }

std::vector<std::pair<std::size_t, std::size_t>> all_of(FreeExtents& extents) {
  std::vector<std::pair<std::size_t, std::size_t>> all;
  for (const Extent& extent : extents.take_all())
    all.emplace_back(static_cast<std::size_t>(extent.begin - at(0)), extent.size);
  return all;
}

}  // namespace

TEST_CASE("the smallest extent that suffices is cut, of several the first", "[extents]") {
  FreeExtents extents;
  CHECK(extents.take(1) == nullptr);
  extents.add({at(0), 100});
  extents.add({at(500), 40});
  extents.add({at(300), 40});
  extents.add({at(700), 60});
  CHECK(extents.take(101) == nullptr);
  CHECK(extents.take(40) == at(300));
  CHECK(extents.take(40) == at(500));
  CHECK(extents.take(40) == at(700));  // of 60
  CHECK(extents.take(30) == at(0));
  CHECK(extents.take(20) == at(740));
  CHECK(all_of(extents) == std::vector<std::pair<std::size_t, std::size_t>>{{30, 70}});
  CHECK(extents.take(1) == nullptr);
}

TEST_CASE("free neighbours become one extent", "[extents]") {
  std::array<int, 4> order{0, 1, 2, 3};
  do {
    FreeExtents extents;
    for (const int i : order) extents.add({at(static_cast<std::size_t>(i) * 10), 10});
    extents.add({at(41), 10});  // one byte away
    CHECK(all_of(extents) == std::vector<std::pair<std::size_t, std::size_t>>{{0, 40}, {41, 10}});
  } while (std::ranges::next_permutation(order).found);
}

TEST_CASE("extents are never given out twice, and all come back", "[extents]") {
  constexpr std::size_t bytes = 400;
  Random random(1, RandomStream::synthetic);
  FreeExtents extents;
  extents.add({at(0), bytes});
  std::array<bool, bytes> is_taken{};
  std::vector<Extent> taken;
  const auto mark = [&](const Extent& extent, bool as) {
    const auto first = is_taken.begin() + (extent.begin - at(0));
    CHECK(std::all_of(first, first + static_cast<std::ptrdiff_t>(extent.size),
                      [&](bool marked) { return marked != as; }));
    std::fill_n(first, extent.size, as);
  };
  const auto give_back = [&](std::size_t i) {
    mark(taken[i], false);
    extents.add(taken[i]);
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
    std::byte* begin = extents.take(size);
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
  CHECK(all_of(extents) == std::vector<std::pair<std::size_t, std::size_t>>{{0, bytes}});
}
