// Free memory by address and by size, for allocators. It only keeps books: nothing here touches the memory.
#pragma once

#include <cstddef>
#include <map>
#include <set>
#include <utility>

namespace faq {

struct MemoryRange {
  std::byte* begin = nullptr;
  std::size_t size = 0;
};

/// Ranges of free memory. Neighbours become one, so what was cut into small blocks serves large ones again
/// once these are free. Not safe for threads.
class FreeMemory {
 public:
  using Ranges = std::map<std::byte*, std::size_t>;  ///< begin, size

  /// Adds a range, which overlaps none that is here. Throws std::bad_alloc; then nothing has changed.
  void add(MemoryRange range);
  /// Takes `size` > 0 bytes from the beginning of the smallest range that has as many; of several of that
  /// size, the one of the lowest address. Returns null if there is none.
  std::byte* take(std::size_t size) noexcept;
  /// Takes everything.
  Ranges take_all() noexcept;

 private:
  void forget(Ranges::iterator range) noexcept;

  Ranges by_address_;
  std::set<std::pair<std::size_t, std::byte*>> by_size_;
};

}  // namespace faq
