#include "core/kernels/simd.h"

#include "core/cpu.h"

namespace faq {
namespace {

// Chosen as the loops are: what is said here is what runs.
#ifdef FAQ_SIMD_ONE_VERSION
int chosen_bytes() { return 16; }
#else
[[maybe_unused]] __attribute__((target(FAQ_SIMD_64_BYTES))) int chosen_bytes() { return 64; }
[[maybe_unused]] __attribute__((target(FAQ_SIMD_32_BYTES))) int chosen_bytes() { return 32; }
__attribute__((target("default"))) int chosen_bytes() { return 16; }
#endif

}  // namespace

int simd_bytes() { return chosen_bytes(); }

}  // namespace faq
