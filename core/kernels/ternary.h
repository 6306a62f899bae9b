// Ternary approximations of groups of weights (Mellempudi et al., arXiv 1701.08978, section 3).
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// How the scale α of a group is computed from its support I (the weights that are not 0).
enum class TernaryScale {
  rms,           ///< √(Σ w²/|I|), as in the paper
  least_squares  ///< Σ|w|/|I|, which minimises the error for a given support
};

/// w ≈ scale·sign(w) where |w| > threshold, else 0.
struct TernaryGroup {
  float scale = 0;
  float threshold = 0;
};

/// For every group of `length` consecutive elements of a row of x (a row is one index of the first dimension;
/// its last group may be shorter): the best of all thresholds, with the smallest Σ (w − Q(w))². f32. {0, 0}
/// for a group of zeros. O(n log n).
std::vector<TernaryGroup> ternary_groups(const Tensor& x, std::int64_t length, TernaryScale form);

}  // namespace faq::kernels
