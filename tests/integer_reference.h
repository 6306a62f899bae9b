// What the ops of an integer network are to compute: the formulas in 64-bit integers and double.
#pragma once

#include "tests/random_network.h"

namespace faq::testing {

/// Values as the nearest integers of a format (ties to even), by the formula.
std::vector<std::int64_t> quantized(const Tensor& values, const FixedPoint& format);

struct Differences {
  std::int64_t values = 0;
  std::int64_t near_ties = 0;    ///< values within 1e-6 of a rounding tie
  std::int64_t differing = 0;    ///< from the deployed formula (multipliers and biases rounded to f32)
  std::int64_t unrounded = 0;    ///< from the formula of batch-norm with nothing rounded
  std::int64_t far_from_it = 0;  ///< of these, by more than one, or not within 1e-3 of a tie
};

/// The integer network of a case is its model's eval-mode forward bit for bit, op by op what the formulas
/// say, and has logits for every image.
Differences check_case(const Case& c);

}  // namespace faq::testing
