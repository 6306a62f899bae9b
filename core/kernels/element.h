// The parts of loops marked FAQ_SIMD: reading elements of any dtype as f32, and arithmetic on them. Inlining
// must be forced. GCC does not inline by itself into a function for another architecture, and a call inside a
// loop keeps the loop scalar (std::min is such a call).
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace faq::kernels {

/// std::clamp for such loops. NaN stays NaN.
template <class T>
[[gnu::always_inline]] inline T clamped(T x, T low, T high) {
  x = x < low ? low : x;
  return high < x ? high : x;
}
[[gnu::always_inline]] inline float magnitude_of(float x) { return x < 0.0f ? -x : x; }
[[gnu::always_inline]] inline double magnitude_of(double x) { return x < 0.0 ? -x : x; }
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

/// A magnitude as bits: those are in the order of magnitudes, and NaN's are the largest.
[[gnu::always_inline]] inline std::uint32_t magnitude_bits(float x) { return bits_of_float(x) & 0x7FFFFFFFu; }
/// The larger of two numbers; NaN if one is.
inline float larger_or_nan(float a, float b) { return a >= b || a != a ? a : b; }

/// Stands for a missing tensor. Reads as 0.
struct Nothing {};

template <class T>
[[gnu::always_inline]] inline float element(const T* values, std::int64_t i) {
  return static_cast<float>(values[i]);
}
[[gnu::always_inline]] inline float element(const bfloat16* values, std::int64_t i) {
  return float_of_bits(std::uint32_t{values[i].bits} << 16);
}
[[gnu::always_inline]] inline float element(const Nothing*, std::int64_t) { return 0.0f; }

/// The values from element n on.
template <class T>
[[gnu::always_inline]] inline const T* behind(const T* values, std::int64_t n) {
  return values + n;
}
[[gnu::always_inline]] inline const Nothing* behind(const Nothing* nothing, std::int64_t) { return nothing; }

}  // namespace faq::kernels
