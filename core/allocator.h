// A caching allocator. It exists because the page faults of fresh large memory cost more than the convolution
// that fills it. What is freed is kept for the next tensors until the program ends: small blocks for others
// of the same size class (eight classes per power of two), large ones, from 512 KB on, as memory that other
// large blocks are cut from. So a process keeps about the most memory it needed at a time. Call
// release_cached_memory() to give unused memory back to the system; allocate() does that itself before it
// fails.
#pragma once

#include <cstddef>
#include <memory>

namespace faq {

struct MemoryStats {
  std::size_t in_use = 0;    ///< bytes held by live tensors, rounded up to size classes or pages
  std::size_t peak = 0;      ///< the largest `in_use` since the last reset
  std::size_t reserved = 0;  ///< bytes taken from the system, used or cached; for large blocks huge pages
};

/// Returns 64-byte-aligned, uninitialised memory. When the last handle dies, the memory goes back to the
/// cache, not to the system. Throws std::bad_alloc. Thread-safe.
std::shared_ptr<std::byte> allocate(std::size_t bytes);

MemoryStats memory_stats();
void reset_peak_memory();

/// Gives all cached (unused) memory back to the system.
void release_cached_memory();

}  // namespace faq
