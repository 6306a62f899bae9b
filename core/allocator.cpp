#include "core/allocator.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <cstdlib>
#include <limits>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#include "core/division.h"
#include "core/free_memory.h"

#if defined(__SANITIZE_ADDRESS__)
#define FAQ_ADDRESS_SANITIZER 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FAQ_ADDRESS_SANITIZER 1
#endif
#endif
#if defined(FAQ_ADDRESS_SANITIZER)
#include <sanitizer/asan_interface.h>
#endif

namespace faq {
namespace {

constexpr std::size_t alignment = 64;
constexpr std::size_t huge_page = std::size_t{1} << 21;
// Bytes. Smaller blocks are kept in lists: who asks next gets the one that was freed last, which is still in
// the CPU's cache.
constexpr std::size_t least_large = std::size_t{1} << 19;
// Some of oneDNN's kernels read, and do not use, up to a vector behind a tensor. The last page of large
// memory must not end there. Behind smaller blocks lies what malloc() needs itself.
constexpr std::size_t read_beyond = 64;
#if defined(FAQ_ADDRESS_SANITIZER)
constexpr std::size_t watched = 64;  // bytes behind a block that nobody may touch
#else
constexpr std::size_t watched = 0;
#endif

std::size_t rounded_up(std::size_t bytes, std::size_t granule) { return multiple_of(granule, bytes); }

std::size_t page() {
  static const auto bytes = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}

bool is_large(std::size_t bytes) { return bytes >= least_large; }

// Small sizes are rounded up to one of eight sizes per power of two, so that the slightly different sizes of
// one network share blocks. This adds at most an eighth.
std::size_t rounded(std::size_t bytes) {
  if (bytes <= 512) return rounded_up(std::max<std::size_t>(bytes, 1), alignment);
  const std::size_t small = rounded_up(bytes, std::bit_floor(bytes - 1) / 8);
  return is_large(small) ? rounded_up(std::max(bytes + read_beyond, least_large), page()) : small;
}

// AddressSanitizer does not know which memory of ours is free. These tell it.
void forbid([[maybe_unused]] MemoryRange memory) {
#if defined(FAQ_ADDRESS_SANITIZER)
  ASAN_POISON_MEMORY_REGION(memory.begin, memory.size);
#endif
}
void permit([[maybe_unused]] MemoryRange memory) {
#if defined(FAQ_ADDRESS_SANITIZER)
  ASAN_UNPOISON_MEMORY_REGION(memory.begin, memory.size);
#endif
}

// Memory for large blocks, in huge pages: fewer page faults and fewer TLB misses. Each is asked for right
// behind the last one, so that what is free of both can join. The system may put it elsewhere.
class Mapped {
 public:
  // Returns at least `bytes`, as whole huge pages; null memory if there is none.
  MemoryRange map(std::size_t bytes) {
    const std::size_t size = rounded_up(bytes, huge_page);
    std::byte* begin = from_system(end_ ? end_ : quiet_place(), size);
    if (begin != nullptr && reinterpret_cast<std::uintptr_t>(begin) % huge_page != 0) {
      ::munmap(begin, size);
      begin = aligned(size);
    }
    if (begin == nullptr) return {};
    end_ = begin + size;
#if defined(MADV_HUGEPAGE)
    ::madvise(begin, size, MADV_HUGEPAGE);  // if refused, ordinary pages are used
#endif
    return {begin, size};
  }

  // If the system refuses, as it may where a process has very many mappings, the memory is lost.
  static void unmap(MemoryRange memory) { ::munmap(memory.begin, memory.size); }

 private:
  // Linux places mappings as high as it can. 256 GB below there is room to grow upwards.
  static std::byte* quiet_place() {
    constexpr std::uintptr_t distance = std::uintptr_t{1} << 38;
    std::byte* highest = from_system(nullptr, huge_page);
    if (highest == nullptr) return nullptr;
    ::munmap(highest, huge_page);
    const auto address = reinterpret_cast<std::uintptr_t>(highest) / huge_page * huge_page;
    return address > distance ? reinterpret_cast<std::byte*>(address - distance) : nullptr;
  }

  static std::byte* from_system(std::byte* wanted, std::size_t size) {
    void* begin = ::mmap(wanted, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return begin == MAP_FAILED ? nullptr : static_cast<std::byte*>(begin);
  }

  static std::byte* aligned(std::size_t size) {
    std::byte* begin = from_system(nullptr, size + huge_page);
    if (begin == nullptr) return nullptr;
    const std::size_t past = reinterpret_cast<std::uintptr_t>(begin) % huge_page;
    const std::size_t before = past == 0 ? 0 : huge_page - past;
    if (before > 0) ::munmap(begin, before);
    ::munmap(begin + before + size, huge_page - before);
    return begin + before;
  }

  std::byte* end_ = nullptr;  ///< of the last memory
};

class Cache {
 public:
  std::byte* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    std::byte* block = is_large(bytes) ? large_block(bytes) : small_block(bytes);
    stats_.in_use += bytes;
    stats_.peak = std::max(stats_.peak, stats_.in_use);
    return block;
  }

  void give_back(std::byte* block, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.in_use -= bytes;
    forbid({block, bytes});
    try {
      keep({block, bytes});
    } catch (const std::bad_alloc&) {
      discard({block, bytes});
    }
  }

  MemoryStats stats() {
    const std::lock_guard lock(mutex_);
    return stats_;
  }

  void reset_peak() {
    const std::lock_guard lock(mutex_);
    stats_.peak = stats_.in_use;
  }

  void release() {
    const std::lock_guard lock(mutex_);
    release_locked();
  }

 private:
  std::byte* small_block(std::size_t bytes) {
    if (auto& list = small_[bytes]; !list.empty()) {
      std::byte* block = list.back();
      list.pop_back();
      return block;
    }
    const MemoryRange memory = fresh([&] {
      return MemoryRange{static_cast<std::byte*>(std::aligned_alloc(alignment, bytes)), bytes};
    });
    return memory.begin;
  }

  std::byte* large_block(std::size_t bytes) {
    if (std::byte* block = large_.take(bytes)) return block;
    const MemoryRange memory = fresh([&] { return mapped_.map(bytes); });
    forbid(memory);
    try {
      large_.add(memory);  // what is free beside it becomes a part of it
    } catch (const std::bad_alloc&) {
      unmap(memory);
      throw;
    }
    return large_.take(bytes);
  }

  // Memory that take_from_system() returns; where it returns none, once more after everything was released.
  template <class Take>
  MemoryRange fresh(Take take_from_system) {
    MemoryRange memory = take_from_system();
    if (memory.begin == nullptr) {
      release_locked();
      memory = take_from_system();
    }
    if (memory.begin == nullptr) throw std::bad_alloc();
    stats_.reserved += memory.size;
    return memory;
  }

  void keep(MemoryRange block) {
    if (is_large(block.size)) {
      large_.add(block);
    } else {
      small_[block.size].push_back(block.begin);
    }
  }
  void discard(MemoryRange block) {
    if (is_large(block.size)) return unmap(block);
    permit(block);
    std::free(block.begin);
    stats_.reserved -= block.size;
  }
  void unmap(MemoryRange memory) {
    permit(memory);
    Mapped::unmap(memory);
    stats_.reserved -= memory.size;
  }

  void release_locked() {
    for (auto& [bytes, list] : small_) {
      for (std::byte* block : list) discard({block, bytes});
      list.clear();
    }
    for (const auto& [begin, size] : large_.take_all()) unmap({begin, size});
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<std::byte*>> small_;  ///< by size class
  FreeMemory large_;
  Mapped mapped_;
  MemoryStats stats_;
};

// Never destroyed, because tensors in static objects may live longer than any static of this file.
Cache& cache() {
  static Cache& instance = *new Cache;
  return instance;
}

}  // namespace

std::shared_ptr<std::byte> allocate(std::size_t bytes) {
  if (bytes > std::numeric_limits<std::ptrdiff_t>::max()) throw std::bad_alloc();  // rounding must not wrap
  const std::size_t size = rounded(bytes + watched);
  std::byte* block = cache().take(size);
  permit({block, bytes});
  forbid({block + bytes, size - bytes});
  return {block, [size](std::byte* b) { cache().give_back(b, size); }};
}

MemoryStats memory_stats() { return cache().stats(); }
void reset_peak_memory() { cache().reset_peak(); }
void release_cached_memory() { cache().release(); }

}  // namespace faq
