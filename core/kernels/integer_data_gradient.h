// The gradient of a convolution's input from 8-bit gradients, in exact integers.
#pragma once

#include "core/kernels/conv.h"
#include "core/kernels/rounded_gradient.h"

namespace faq::kernels {

/// True if the geometry is one that conv2d_backward_data_integer() takes: no groups of channels, holes only
/// with stride 1, no border that is wider than what the filter reaches, and sums that can be exact.
bool suits_integer_data_gradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

/// dx = scale·Σ dy·w with exact sums. dy·w is a convolution of dy with the flipped filter. With stride t the
/// pixels of dx fall into t·t phases, each a convolution with every t-th tap. So it is computed as the
/// forward pass is (conv2d_integer), and as exactly.
///
/// weights: s8; their scale is not used. dx: bf16 or f32, N,H,W,C; `adds`: the gradient is added to it, in
/// f32, before it is rounded. Precondition: suits.
void conv2d_backward_data_integer(const RoundedGradient& dy, const PackedWeights& weights,
                                  const ConvGeometry& geometry, Engine engine, Tensor& dx, bool adds = false);

/// Prepares the weights of such a gradient on all threads, for kernels that several threads are about to run.
void prepare_data_gradient_integer(const Shape& x, const PackedWeights& weights,
                                   const ConvGeometry& geometry);

}  // namespace faq::kernels
