// Elements as f32, for loops that are compiled once per dtype: reading and computing in one pass.
#pragma once

#include <bit>
#include <cstdint>

#include "core/dtype.h"

namespace faq::kernels {

/// Stands for a tensor that is not there; reads as 0.
struct Nothing {};

template <class T>
[[gnu::always_inline]] inline float element(const T* values, std::int64_t i) {
  return static_cast<float>(values[i]);
}
[[gnu::always_inline]] inline float element(const bfloat16* values, std::int64_t i) {
  return std::bit_cast<float>(std::uint32_t{values[i].bits} << 16);
}
[[gnu::always_inline]] inline float element(const Nothing*, std::int64_t) { return 0.0f; }

}  // namespace faq::kernels
