// Sums of terms in f32 with the same bits for every instruction set.
#pragma once

#include <cstdint>

namespace faq::kernels {

/// term(0) + … + term(n − 1), as independent partial sums that a loop marked FAQ_SIMD keeps in registers.
/// term must be always_inline: a lambda says so after its parameters, __attribute__((always_inline)), which
/// is the one place that GCC and clang agree on. It is called once for every index, in rising order.
template <class Term>
[[gnu::always_inline]] inline float lane_sum(std::int64_t n, const Term& term) {
  constexpr int lanes = 32;
  float sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) sums[lane] += term(i + lane);
  }
  float total = 0;
  for (; i < n; ++i) total += term(i);
  for (const float sum : sums) total += sum;
  return total;
}

}  // namespace faq::kernels
