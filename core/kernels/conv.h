// 2-D convolution, floating point and exact integers, by oneDNN. The gradient of the weights:
// weight_gradient.h. Images N,H,W,C, weights O,I/G,H,W.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/kernels/packed_weights.h"
#include "core/tensor.h"

namespace faq {

/// How integer convolutions are computed. Both give the same integers.
enum class Engine {
  integer,   ///< u8·s8 kernels
  simulated  ///< f32 convolution of the integers: any CPU, exact because every sum stays below 2^24
};

}  // namespace faq

namespace faq::kernels {

/// x and weights of one dtype, f32 or bf16; returns f32.
Tensor conv2d(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry);

/// x: u8 or s8, weights: s8; returns s32 accumulators, every one exact. They carry no scale.
///
/// Exactness (the numerical contract). oneDNN may pass accumulators through f32, exact below 2^24,
/// and without VNNI adds pairs of products in saturating 16 bits, exact while |w| ≤ 64. Weights that could
/// leave these bounds are split into addends that cannot, whose convolutions are summed in s32; with VNNI
/// only when a result lies beyond them. Signed inputs are shifted into u8 and corrected, by
/// oneDNN or before it.
Tensor conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                      Engine engine);

/// The same into y, which is s32 and has the right shape.
void conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                    Engine engine, Tensor& y);

/// Gradient of the input, in `dtype` (f32 or bf16). dy and weights of one dtype, f32 or bf16.
Tensor conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const Shape& x,
                            const ConvGeometry& geometry, DType dtype);
/// The same into dx, in its dtype.
void conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const ConvGeometry& geometry,
                          Tensor& dx);

}  // namespace faq::kernels
