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

// Numbers in front of the first whole vector of `to`. They, and what is left behind the last one, are written
// as usual.
std::int64_t in_front(const float* to, std::int64_t n, std::uintptr_t vector) {
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(to) / sizeof(float);
  return std::min(n, static_cast<std::int64_t>(-at % vector));
}

void multiply_16_bytes(const float* from, float factor, std::int64_t n, float* to) {
  std::int64_t i = in_front(to, n, 4);
  multiply(from, factor, i, to);
  for (; i + 4 <= n; i += 4) _mm_stream_ps(to + i, _mm_mul_ps(_mm_loadu_ps(from + i), _mm_set1_ps(factor)));
  multiply(from + i, factor, n - i, to + i);
}

__attribute__((target("avx512f"))) void multiply_64_bytes(const float* from, float factor, std::int64_t n,
                                                          float* to) {
  std::int64_t i = in_front(to, n, 16);
  multiply(from, factor, i, to);
  for (; i + 16 <= n; i += 16)
    _mm512_stream_ps(to + i, _mm512_mul_ps(_mm512_loadu_ps(from + i), _mm512_set1_ps(factor)));
  multiply(from + i, factor, n - i, to + i);
}

#endif

}  // namespace

std::vector<MultiplyStreamed> streamed_loops() {
#if defined(__x86_64__)
  if (simd_bytes() == 64) return {multiply_64_bytes, multiply_16_bytes};
  return {multiply_16_bytes};
#else
  return {multiply};
#endif
}

void multiply_streamed(const float* from, float factor, std::int64_t n, float* to) {
  static const MultiplyStreamed loop = streamed_loops().front();
  loop(from, factor, n, to);
}

void end_streamed() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

}  // namespace faq::kernels
