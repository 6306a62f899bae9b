#include "core/allocator.h"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

namespace faq {
namespace {

constexpr std::size_t alignment = 64;

// Sizes are rounded up to one of eight sizes per power of two, so that the slightly different sizes of one
// network share blocks. This adds at most an eighth. From 2 MB on, taken() also rounds up to whole huge
// pages, which adds most for blocks of little more than one page.
std::size_t rounded(std::size_t bytes) {
  if (bytes <= 512) return (bytes + alignment - 1) / alignment * alignment + (bytes == 0 ? alignment : 0);
  const std::size_t granule = std::bit_floor(bytes - 1) / 8;
  return (bytes + granule - 1) / granule * granule;
}

// Blocks of at least a huge page ask for huge pages: fewer page faults and fewer TLB misses.
constexpr std::size_t huge_page = std::size_t{1} << 21;

// The bytes that a block of this (rounded) size takes from the system.
std::size_t taken(std::size_t bytes) {
  return bytes < huge_page ? bytes : (bytes + huge_page - 1) / huge_page * huge_page;
}

std::byte* from_system(std::size_t bytes) {
  if (bytes < huge_page) return static_cast<std::byte*>(std::aligned_alloc(alignment, bytes));
  void* block = std::aligned_alloc(huge_page, taken(bytes));
#if defined(MADV_HUGEPAGE)
  if (block != nullptr) madvise(block, taken(bytes), MADV_HUGEPAGE);  // if refused, ordinary pages are used
#endif
  return static_cast<std::byte*>(block);
}

class Cache {
 public:
  std::byte* take(std::size_t bytes) {
    const std::lock_guard lock(mutex_);
    std::byte* block = nullptr;
    if (auto& list = free_[bytes]; !list.empty()) {
      block = list.back();
      list.pop_back();
    } else {
      block = from_system(bytes);
      if (block == nullptr) {
        release_locked();
        block = from_system(bytes);
      }
      if (block == nullptr) throw std::bad_alloc();
      stats_.reserved += taken(bytes);
    }
    stats_.in_use += bytes;
    if (stats_.in_use > stats_.peak) stats_.peak = stats_.in_use;
    return block;
  }

  void give_back(std::byte* block, std::size_t bytes) noexcept {
    const std::lock_guard lock(mutex_);
    stats_.in_use -= bytes;
    try {
      free_[bytes].push_back(block);
    } catch (...) {
      std::free(block);
      stats_.reserved -= taken(bytes);
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
  void release_locked() {
    for (auto& [bytes, list] : free_) {
      for (std::byte* block : list) std::free(block);
      stats_.reserved -= taken(bytes) * list.size();
      list.clear();
    }
  }

  std::mutex mutex_;
  std::unordered_map<std::size_t, std::vector<std::byte*>> free_;
  MemoryStats stats_;
};

// Never destroyed, because tensors in static objects may live longer than any static of this file.
Cache& cache() {
  static Cache& instance = *new Cache;
  return instance;
}

}  // namespace

std::shared_ptr<std::byte> allocate(std::size_t bytes) {
  const std::size_t size = rounded(bytes);
  std::byte* block = cache().take(size);
  return {block, [size](std::byte* b) { cache().give_back(b, size); }};
}

MemoryStats memory_stats() { return cache().stats(); }
void reset_peak_memory() { cache().reset_peak(); }
void release_cached_memory() { cache().release(); }

}  // namespace faq
