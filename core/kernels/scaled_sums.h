// Integer sums as real numbers.
#pragma once

#include <cstdint>

#include "core/dtype.h"

namespace faq::kernels {

/// out = f32(sums)·scale
void scale_sums(const std::int32_t* sums, float scale, float* out, std::int64_t n);
/// out += f32(sums)·scale
void add_scaled_sums(const std::int32_t* sums, float scale, float* out, std::int64_t n);
/// out = to + f32(sums)·scale
void add_scaled_sums(const std::int32_t* sums, float scale, const bfloat16* to, float* out, std::int64_t n);

}  // namespace faq::kernels
