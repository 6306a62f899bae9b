// Concatenation of images along their channels.
#pragma once

#include <span>

#include "core/tensor.h"

namespace faq::kernels {

/// N,H,W,ΣC from tensors that differ in C only. Integers must have one format (their scales are tied).
Tensor concat_channels(std::span<const Tensor> parts);
/// The same into `out`, whose scale is the caller's to set.
void concat_channels(std::span<const Tensor> parts, Tensor& out);
Shape concat_channels_shape(std::span<const Shape> parts);
/// Channels [first, first + count) of x: what a part of a concatenation was, or its gradient.
Tensor take_channels(const Tensor& x, std::int64_t first, std::int64_t count);

}  // namespace faq::kernels
