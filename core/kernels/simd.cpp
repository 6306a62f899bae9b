#include "core/kernels/simd.h"

#include "core/cpu.h"

namespace faq {
// Not an anonymous namespace: clang would report functions with several versions as unused.
namespace simd_versions {

// Chosen in the same way as the loops, so it reports the version that runs.
#ifdef FAQ_SIMD_ONE_VERSION
int chosen_bytes() { return 16; }
#else
__attribute__((target(FAQ_SIMD_64_BYTES))) int chosen_bytes() { return 64; }
__attribute__((target(FAQ_SIMD_32_BYTES))) int chosen_bytes() { return 32; }
__attribute__((target("default"))) int chosen_bytes() { return 16; }
#endif

}  // namespace simd_versions

int simd_bytes() { return simd_versions::chosen_bytes(); }

}  // namespace faq
