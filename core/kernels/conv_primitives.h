// Convolutions as oneDNN executes them: no exactness, no checks. Included by core/kernels/*.cpp only.
#pragma once

#include "core/kernels/onednn.h"
#include "core/kernels/weight_forms.h"

namespace faq::kernels::onednn {

/// A gradient of weights in the layout oneDNN wants.
struct Packed {
  dnnl::memory::desc desc;
  Tensor storage;
};

/// Of a convolution by this number of threads, without a bias.
ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType source,
                       DType weight, DType destination);

/// y = x ⋆ weights + bias, in the dtypes of the tensors. `bias`: undefined, or O values of s32.
void convolve(const Tensor& x, WeightForms& weights, const Tensor& bias, const ConvGeometry& geometry,
              Tensor& y);
/// dx, in its dtype. dy and weights of one dtype, f32 or bf16.
void convolve_backward_data(const Tensor& dy, WeightForms& weights, const ConvGeometry& geometry, Tensor& dx);
/// The gradient of O,I,H,W weights, f32. x and dy of one dtype, f32 or bf16.
Packed convolve_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                                 const ConvGeometry& geometry);
/// O,I,H,W, f32.
Tensor unpacked(const Packed& gradient, const Shape& weights, int groups);

}  // namespace faq::kernels::onednn
