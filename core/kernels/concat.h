// Concatenation of images along their channels.
#pragma once

#include <span>

#include "core/tensor.h"

namespace faq::kernels {

/// Returns N,H,W,ΣC from tensors that differ in C only. Integers must have one format (their scales are
/// tied).
Tensor concat_channels(std::span<const Tensor> parts);
/// The same into `out`. The caller sets the scale of `out`.
void concat_channels(std::span<const Tensor> parts, Tensor& out);
Shape concat_channels_shape(std::span<const Shape> parts);
/// Returns channels [first, first + count) of x: one part of a concatenation, or the gradient of a part.
Tensor take_channels(const Tensor& x, std::int64_t first, std::int64_t count);

}  // namespace faq::kernels
