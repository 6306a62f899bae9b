// A caching allocator: the page faults of a fresh large buffer cost more than the convolution that fills it.
#pragma once

#include <cstddef>
#include <memory>

namespace faq {

struct MemoryStats {
  std::size_t in_use = 0;    ///< bytes held by live tensors
  std::size_t peak = 0;      ///< the most `in_use` has been since the last reset
  std::size_t reserved = 0;  ///< bytes obtained from the system, live or cached
};

/// 64-byte-aligned, uninitialised memory; returned to a cache, not to the system, when the handle dies.
/// Throws std::bad_alloc. Safe to call from any thread.
std::shared_ptr<std::byte> allocate(std::size_t bytes);

MemoryStats memory_stats();
void reset_peak_memory();

/// Gives every cached (unused) block back to the system.
void release_cached_memory();

}  // namespace faq
