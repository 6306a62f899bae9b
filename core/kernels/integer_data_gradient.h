// The gradient of a convolution's input from 8-bit gradients, in exact integers.
#pragma once

#include "core/kernels/conv.h"
#include "core/kernels/rounded_gradient.h"

namespace faq::kernels {

/// True if the geometry is one that conv2d_backward_data_integer() takes: no groups of channels, holes only
/// with stride 1, and no border that is wider than what the filter reaches.
bool suits_integer_data_gradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

/// dx = scale·Σ dy·w with exact sums. dy·w is a convolution of dy with the flipped filter. With stride t the
/// pixels of dx fall into t·t phases, each a convolution with every t-th tap. So it is computed as the
/// forward pass is (conv2d_integer), and as exactly.
///
/// weights: s8; their scale is not used. dx: bf16 or f32, N,H,W,C. Precondition: suits.
void conv2d_backward_data_integer(const RoundedGradient& dy, const PackedWeights& weights,
                                  const ConvGeometry& geometry, Engine engine, Tensor& dx);

}  // namespace faq::kernels
