// What the loops marked FAQ_SIMD are made of: elements as f32, whatever their dtype, and arithmetic on them.
// All of it must be inlined by force: GCC inlines nothing of its own accord into a function of another
// architecture, and a call in a loop leaves it scalar (std::min is such a call).
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace faq::kernels {

/// std::clamp for loops; NaN stays NaN.
template <class T>
[[gnu::always_inline]] inline T clamped(T x, T low, T high) {
  x = x < low ? low : x;
  return high < x ? high : x;
}
[[gnu::always_inline]] inline float magnitude_of(float x) { return x < 0.0f ? -x : x; }
[[gnu::always_inline]] inline float float_of_bits(std::uint32_t bits) {
  float x;
  __builtin_memcpy(&x, &bits, sizeof x);
  return x;
}
[[gnu::always_inline]] inline std::uint32_t bits_of_float(float x) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, &x, sizeof bits);
  return bits;
}

/// Stands for a tensor that is not there; reads as 0.
struct Nothing {};

template <class T>
[[gnu::always_inline]] inline float element(const T* values, std::int64_t i) {
  return static_cast<float>(values[i]);
}
[[gnu::always_inline]] inline float element(const bfloat16* values, std::int64_t i) {
  return float_of_bits(std::uint32_t{values[i].bits} << 16);
}
[[gnu::always_inline]] inline float element(const Nothing*, std::int64_t) { return 0.0f; }

}  // namespace faq::kernels
