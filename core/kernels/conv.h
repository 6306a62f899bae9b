// 2-D convolution in floating point and in exact integers, by oneDNN. Images N,H,W,C, weights O,I/G,H,W. The
// gradient of the weights: weight_gradient.h.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/kernels/packed_weights.h"
#include "core/tensor.h"

namespace faq {

/// How integer convolutions are computed. Both give the same integers.
enum class Engine {
  integer,   ///< u8·s8 kernels
  simulated  ///< f32 convolution of the integers: runs on any CPU; exact because every sum stays below 2^24
};

}  // namespace faq

namespace faq::kernels {

/// x and weights have one dtype, f32 or bf16. Returns f32.
Tensor conv2d(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry);

/// x: u8 or s8, weights: s8. Returns s32 accumulators without a scale. Every accumulator is exact.
///
/// Exactness (the numerical contract). oneDNN may pass accumulators through f32, which is exact below 2^24.
/// Without VNNI it adds pairs of products in saturating 16 bits, which is exact while |w| ≤ 64. Weights that
/// could exceed these bounds are split into addends that cannot; the convolutions with the addends are summed
/// in s32. With VNNI and unsigned inputs, the unsplit weights are tried first if the kernel rounds only its
/// results (rounding.h); then they are split only when a result lies beyond the bound. Signed inputs are
/// shifted to u8 and the sums corrected, by oneDNN or before it is called.
Tensor conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                      Engine engine);

/// The same into y, which must be s32 and have the right shape.
void conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                    Engine engine, Tensor& y);
/// The same with forms of weights. For kernels only.
void conv2d_integer(const Tensor& x, WeightForms& weights, const ConvGeometry& geometry, Engine engine,
                    Tensor& y);

/// Returns the gradient of the input, in `dtype` (f32 or bf16). dy and weights have one dtype, f32 or bf16.
Tensor conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const Shape& x,
                            const ConvGeometry& geometry, DType dtype);
/// The same into dx, in the dtype of dx.
void conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const ConvGeometry& geometry,
                          Tensor& dx);

}  // namespace faq::kernels
