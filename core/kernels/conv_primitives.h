// Runs convolutions with oneDNN, without exactness and without checks. Included by core/kernels/*.cpp only.
#pragma once

#include "core/kernels/onednn.h"
#include "core/kernels/weight_forms.h"

namespace faq::kernels::onednn {

/// A gradient of weights in oneDNN's layout.
struct Packed {
  dnnl::memory::desc desc;
  Tensor storage;
};

/// Describes a convolution without bias, for the current number of threads.
ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType source,
                       DType weight, DType destination);

/// y = x ⋆ weights + bias, in the dtypes of the tensors. `bias`: undefined, or O values of s32.
void convolve(const Tensor& x, WeightForms& weights, const Tensor& bias, const ConvGeometry& geometry,
              Tensor& y);
/// Computes dx, in the dtype of dx. dy and weights have one dtype, f32 or bf16.
void convolve_backward_data(const Tensor& dy, WeightForms& weights, const ConvGeometry& geometry, Tensor& dx);
/// Computes the gradient of O,I,H,W weights, f32. x and dy have one dtype, f32 or bf16.
Packed convolve_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                                 const ConvGeometry& geometry);
/// Returns the gradient as O,I,H,W, f32.
Tensor unpacked(const Packed& gradient, const Shape& weights, int groups);

}  // namespace faq::kernels::onednn
