// Rounding of a sum of products as if nothing had been rounded before.
#pragma once

#include <cstdint>

namespace faq::kernels {

/// sum·multiplier + bias + residual·factor, with no rounding in between. `residual` is an integer of 8 bits.
struct ExactSum {
  std::int32_t sum;
  float multiplier;
  float bias;
  std::int32_t residual;
  float factor;
};

/// Returns the nearest integer from `low` to `high`, half to even. Precondition: both are integers.
double rounded_exactly(const ExactSum& value, double low, double high);

}  // namespace faq::kernels
