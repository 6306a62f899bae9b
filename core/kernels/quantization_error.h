// What choosing a scale needs to know of a tensor.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// max |x|. f32.
float max_magnitude(const Tensor& x);
/// Σ (x − Q(x))² for each of these formats, in one pass over x. f32; chunks are summed in order, so the
/// result does not depend on threads.
std::vector<double> quantization_errors(const Tensor& x, std::span<const FixedPoint> formats);
/// For every `length` consecutive elements of a row of x (index of the first dimension), the last group of a
/// row perhaps fewer, the scale, any real number to an eighth of an octave, that minimises Σ (x − Q(x))² with
/// the bits of `format`. f32; 0 for a group of zeros.
std::vector<float> group_scales(const Tensor& x, std::int64_t length, const FixedPoint& format);
/// The same of whole rows.
std::vector<float> row_scales(const Tensor& x, const FixedPoint& format);

}  // namespace faq::kernels
