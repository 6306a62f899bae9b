// Quantization errors of a tensor, for choosing a scale.
#pragma once

#include <span>
#include <vector>

#include "core/tensor.h"

namespace faq::kernels {

/// max |x|. f32.
float max_magnitude(const Tensor& x);
/// Σ (x − Q(x))² for each of these formats, in one pass over x. f32. Chunks are summed in order, so the
/// result does not depend on threads.
std::vector<double> quantization_errors(const Tensor& x, std::span<const FixedPoint> formats);
/// For every group of `length` consecutive elements of a row of x (a row is one index of the first dimension;
/// its last group may be shorter): the scale that minimises Σ (x − Q(x))² with the bits of `format`. The
/// scale is a real number, found to an eighth of an octave. f32. 0 for a group of zeros.
std::vector<float> group_scales(const Tensor& x, std::int64_t length, const FixedPoint& format);
/// The same for whole rows.
std::vector<float> row_scales(const Tensor& x, const FixedPoint& format);

}  // namespace faq::kernels
