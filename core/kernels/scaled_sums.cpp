#include "core/kernels/scaled_sums.h"

#include "core/kernels/element.h"
#include "core/kernels/simd.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void scale(const std::int32_t* sums, float factor, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(sums[i]) * factor;
}
FAQ_SIMD void add_scaled(const std::int32_t* sums, float factor, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] += static_cast<float>(sums[i]) * factor;
}
FAQ_SIMD void add_scaled_to(const std::int32_t* sums, float factor, const bfloat16* to, float* out,
                            std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = element(to, i) + static_cast<float>(sums[i]) * factor;
}

}  // namespace

void scale_sums(const std::int32_t* sums, float factor, float* out, std::int64_t n) {
  scale(sums, factor, out, n);
}

void add_scaled_sums(const std::int32_t* sums, float factor, float* out, std::int64_t n) {
  add_scaled(sums, factor, out, n);
}

void add_scaled_sums(const std::int32_t* sums, float factor, const bfloat16* to, float* out, std::int64_t n) {
  add_scaled_to(sums, factor, to, out, n);
}

}  // namespace faq::kernels
