// Free memory by address and by size, for allocators. It only keeps books: nothing here touches the memory.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <utility>
#include <vector>

namespace faq {

struct Extent {
  std::byte* begin = nullptr;
  std::size_t size = 0;
};

/// Extents of free memory. Neighbours become one, so what was cut into small blocks serves large ones again
/// once these are free. Not safe for threads.
class FreeExtents {
 public:
  /// Adds an extent, which overlaps none that is here. Throws std::bad_alloc; then nothing has changed.
  void add(Extent extent);
  /// Takes `size` > 0 bytes from the beginning of the smallest extent that has as many; of several of that
  /// size, the one of the lowest address. Returns null if there is none.
  std::byte* take(std::size_t size);
  /// Takes everything.
  std::vector<Extent> take_all();

 private:
  using ByAddress = std::map<std::byte*, std::size_t>;
  void forget(ByAddress::iterator extent);

  ByAddress by_address_;
  std::set<std::pair<std::size_t, std::byte*>> by_size_;
};

}  // namespace faq
