// Weights in parts small enough for sums that nothing rounds.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// Up to here every integer is an f32.
inline constexpr std::int64_t f32_integers = std::int64_t{1} << 24;

/// Into how many addends s8 weights must be split for exact_addends().
int exact_parts(const Tensor& weights, int max_input, int max_magnitude);

/// s8 weights as so many addends, whose magnitudes differ by at most one.
std::vector<Tensor> divided(const Tensor& weights, int parts);

/// s8 weights as few s8 addends whose magnitudes stay within `max_magnitude` and whose sums with
/// inputs of 0 to `max_input`, in whatever order, stay within ±2^24: that is, the positive and the negative
/// weights of an output channel, each for themselves, bounded from their sums and counts.
std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude);

}  // namespace faq::kernels
