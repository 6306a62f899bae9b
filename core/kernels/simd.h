// One binary for several instruction sets: a function marked FAQ_SIMD is compiled for each, and one version
// is chosen at start-up. These files are compiled without contraction of a·b+c, so every version computes the
// same bits.
#pragma once

// Not with sanitizers: the resolvers run before the sanitizers' runtime is ready.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define FAQ_SIMD_ONE_VERSION
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(undefined_behavior_sanitizer)
#define FAQ_SIMD_ONE_VERSION
#endif
#endif

// The names are feature levels. A CPU's name ("arch=haswell") would be chosen on exactly that CPU only.
#if defined(__clang__)
#define FAQ_SIMD_64_BYTES "avx512bw"
#define FAQ_SIMD_32_BYTES "avx2"
#else
#define FAQ_SIMD_64_BYTES "arch=x86-64-v4"
#define FAQ_SIMD_32_BYTES "arch=x86-64-v3"
#endif

#ifdef FAQ_SIMD_ONE_VERSION
#define FAQ_SIMD
#else
#define FAQ_SIMD __attribute__((target_clones(FAQ_SIMD_64_BYTES, FAQ_SIMD_32_BYTES, "default")))
#endif
