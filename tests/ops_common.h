// What the tests of ops share.
#pragma once

#include <vector>

#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/ops.h"
#include "tests/reference.h"

namespace faq::testing {

using Inputs = const std::vector<Var>&;

/// With running statistics of its own.
inline NormState norm_state(const Var& gamma, const Var& beta) {
  const std::int64_t channels = gamma.value().numel();
  return {gamma, beta, reference::random({channels}, 50, -0.2, 0.2),
          reference::random({channels}, 51, 0.5, 1.5)};
}

/// The values a bf16 gradient has: exactly what the operation receives.
inline Tensor gradient(const Shape& shape, std::uint64_t salt, DType dtype) {
  return kernels::convert(reference::random(shape, salt), dtype);
}

/// One rounding of the result, and that of the intermediate values in bf16.
inline double tolerance(DType dtype) { return dtype == DType::bf16 ? 1.0 / 128 : 1e-5; }

/// Those that this CPU's kernels take without converting.
inline std::vector<GradFormat> gradient_formats() {
  if (has_native_bf16()) return {GradFormat::f32, GradFormat::bf16};
  return {GradFormat::f32};
}

}  // namespace faq::testing
