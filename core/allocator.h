// A caching allocator. It exists because the page faults of a fresh large buffer cost more than the
// convolution that fills it. A freed block is kept for the next tensor of the same size class (eight classes
// per power of two) until the program ends. So a process keeps the most memory it ever needed. Call
// release_cached_memory() to give unused blocks back to the system; allocate() does that itself before it
// fails.
#pragma once

#include <cstddef>
#include <memory>

namespace faq {

struct MemoryStats {
  std::size_t in_use = 0;    ///< bytes held by live tensors, rounded up to size classes
  std::size_t peak = 0;      ///< the largest `in_use` since the last reset
  std::size_t reserved = 0;  ///< bytes taken from the system, used or cached; large blocks in huge pages
};

/// Returns 64-byte-aligned, uninitialised memory. When the last handle dies, the memory goes back to the
/// cache, not to the system. Throws std::bad_alloc. Thread-safe.
std::shared_ptr<std::byte> allocate(std::size_t bytes);

MemoryStats memory_stats();
void reset_peak_memory();

/// Gives every cached (unused) block back to the system.
void release_cached_memory();

}  // namespace faq
