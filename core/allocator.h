// A caching allocator: the page faults of a fresh large buffer cost more than the convolution that fills it.
// A block whose tensor is gone is kept for the next one of its size class (eight per power of two), for as
// long as the program runs: a process keeps the most it ever needed. Who is done with large tensors and wants
// their memory back calls release_cached_memory(); so does allocate() itself before it gives up.
#pragma once

#include <cstddef>
#include <memory>

namespace faq {

struct MemoryStats {
  std::size_t in_use = 0;    ///< bytes held by live tensors, rounded up to their size classes
  std::size_t peak = 0;      ///< the most `in_use` has been since the last reset
  std::size_t reserved = 0;  ///< bytes obtained from the system, live or cached: large blocks in whole pages
};

/// 64-byte-aligned, uninitialised memory; returned to a cache, not to the system, when the handle dies.
/// Throws std::bad_alloc. Safe to call from any thread.
std::shared_ptr<std::byte> allocate(std::size_t bytes);

MemoryStats memory_stats();
void reset_peak_memory();

/// Gives every cached (unused) block back to the system.
void release_cached_memory();

}  // namespace faq
