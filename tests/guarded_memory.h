// Memory that ends at a page nobody may touch. Sanitizers do not see what code that was made at run time, as
// oneDNN's, reads and writes; the processor does.
#pragma once

namespace faq::testing {

/// Where the forbidden page is.
enum class Guard {
  none,
  before,  ///< the block begins at the beginning of a page
  behind,  ///< it ends within 64 bytes of the end of one: tensors may be read so far beyond their end
};

/// Of all aligned blocks, such as tensors and scratchpads, that are asked for from now on; those of 512 KB
/// and more excepted, which core/allocator.h cuts from larger memory. Not under sanitizers, which have
/// allocators of their own.
void guard_aligned_memory(Guard guard);
/// Whether this build can do so.
bool can_guard_memory();

}  // namespace faq::testing
