// One binary, several instruction sets: a function marked FAQ_SIMD is compiled for each and chosen at
// start-up. Contraction of a·b+c is off for these files, so every version computes the same bits.
#pragma once

// Not with sanitizers: the resolvers run before their runtime is ready.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define FAQ_SIMD_ONE_VERSION
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(undefined_behavior_sanitizer)
#define FAQ_SIMD_ONE_VERSION
#endif
#endif

// Named by what the CPU can do: a model's name ("arch=haswell") is chosen on that very model alone.
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
