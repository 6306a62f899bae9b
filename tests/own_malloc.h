// Whether a program may stand in for malloc(): sanitizers have allocators of their own, and the functions
// behind malloc() have these names in glibc.
#pragma once

#include <cstdlib>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer) || __has_feature(thread_sanitizer)
#define FAQ_OWN_MALLOC 0
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || !defined(__GLIBC__)
#define FAQ_OWN_MALLOC 0
#endif
#ifndef FAQ_OWN_MALLOC
#define FAQ_OWN_MALLOC 1
#endif
