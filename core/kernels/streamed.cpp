#include "core/kernels/streamed.h"

#include <algorithm>

#include "core/cpu.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace faq::kernels {
namespace {

void multiply(const float* from, float factor, std::int64_t n, float* to) {
  for (std::int64_t i = 0; i < n; ++i) to[i] = from[i] * factor;
}

#if defined(__x86_64__)

// What comes before the first whole vector of `to`, and behind the last one, is written as usual.
void multiply_16_bytes(const float* from, float factor, std::int64_t n, float* to) {
  std::int64_t i = std::min<std::int64_t>(n, -(reinterpret_cast<std::uintptr_t>(to) / sizeof(float)) % 4);
  multiply(from, factor, i, to);
  for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_mul_ps(_mm_loadu_ps(from + i), _mm_set1_ps(factor)));
  multiply(from + i, factor, n - i, to + i);
}
__attribute__((target("avx512f"))) void multiply_64_bytes(const float* from, float factor, std::int64_t n,
                                                          float* to) {
  std::int64_t i = std::min<std::int64_t>(n, -(reinterpret_cast<std::uintptr_t>(to) / sizeof(float)) % 16);
  multiply(from, factor, i, to);
  for (; i + 16 <= n; i += 16)
    _mm512_stream_ps(to + i, _mm512_mul_ps(_mm512_loadu_ps(from + i), _mm512_set1_ps(factor)));
  multiply(from + i, factor, n - i, to + i);
}

#endif

}  // namespace

#if defined(__x86_64__)

void multiply_streamed(const float* from, float factor, std::int64_t n, float* to) {
  static const auto loop = simd_bytes() == 64 ? multiply_64_bytes : multiply_16_bytes;
  loop(from, factor, n, to);
}

void end_streamed() { _mm_sfence(); }

#else

void multiply_streamed(const float* from, float factor, std::int64_t n, float* to) {
  multiply(from, factor, n, to);
}

void end_streamed() {}

#endif

}  // namespace faq::kernels
