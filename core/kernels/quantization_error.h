// What choosing a step needs to know of a tensor.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// max |x|. f32.
float max_magnitude(const Tensor& x);
/// Σ (x − Q(x))² for a fixed-point format. f32; chunks are summed in order, so the result does not depend on
/// threads.
double quantization_error(const Tensor& x, const FixedPoint& format);
/// For every row of x (index of the first dimension) the step, any real number to an eighth of an octave,
/// that minimises its Σ (x − Q(x))² with the bits of `format`. f32; 0 for a row of zeros.
std::vector<float> row_steps(const Tensor& x, const FixedPoint& format);

}  // namespace faq::kernels
