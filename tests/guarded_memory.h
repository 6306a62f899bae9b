// Tensors between pages that nobody may touch, full of what nobody has written. Sanitizers do not see what
// code that was made at run time, as oneDNN's, reads and writes; the processor does.
//
// guarded_memory.cpp stands in for core/allocator.cpp in the program it is linked to: all tensors and
// scratchpads have memory of their own.
#pragma once

namespace faq::testing {

/// Where the forbidden page is.
enum class Guard {
  before,  ///< the tensor begins at the beginning of a page
  behind,  ///< it ends 64 to 127 bytes before the end of one: kernels may read 64 bytes beyond it
};

/// Of all tensors from now on; `behind` before the first call. All bytes are 255, which as f32 and bf16 is
/// NaN. When a tensor is freed beyond which something was written, the process aborts.
void set_guard(Guard guard);

}  // namespace faq::testing
