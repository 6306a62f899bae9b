// One binary, several instruction sets: a function marked FAQ_SIMD is compiled for each and chosen at
// start-up. Contraction of a·b+c is off for these files, so every version computes the same bits.
#pragma once

// The resolvers run before the sanitizers' runtime is ready.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__x86_64__)
#define FAQ_SIMD
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || \
    __has_feature(undefined_behavior_sanitizer)
#define FAQ_SIMD
#endif
#endif
#ifndef FAQ_SIMD
#define FAQ_SIMD __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#endif
