// Memory between forbidden pages, full of what nobody has written. Sanitizers do not see what code that was
// made at run time, as oneDNN's, reads and writes; the processor does.
#pragma once

namespace faq::testing {

/// Where the forbidden page is.
enum class Guard {
  none,
  before,  ///< the block begins at the beginning of a page
  behind,  ///< it ends 64 to 127 bytes before the end of one
};

/// Of all aligned blocks, such as tensors and scratchpads, that are asked for from now on; those of 512 KB
/// and more excepted, which core/allocator.h cuts from larger memory. Kernels may read 64 bytes beyond the
/// end. All bytes are 255, which as f32 and bf16 is NaN. Who has written beyond the end is told so when the
/// block is freed: the process aborts. Not under sanitizers, which have allocators of their own.
void guard_aligned_memory(Guard guard);
/// Whether this build can do so.
bool can_guard_memory();

}  // namespace faq::testing
