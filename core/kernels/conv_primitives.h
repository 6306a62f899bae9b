// Convolutions as oneDNN executes them: no exactness, no checks. Included by core/kernels/*.cpp only.
#pragma once

#include <mutex>
#include <vector>

#include "core/kernels/onednn.h"

namespace faq::kernels::onednn {

/// Weights or their gradient in the layout oneDNN wants.
struct Packed {
  dnnl::memory::desc desc;
  Tensor storage;
};

/// What is kept with a weight tensor for as long as its contents stand: its layouts for oneDNN and, for
/// integer weights, its exact addends. Views of one storage (some rows, another shape) have one each. Images
/// may run through one network in several threads: whoever looks into a cache holds weight_cache_mutex().
struct WeightCache {
  struct Addends {
    int max_input;
    int max_magnitude;
    int parts;                    ///< 1: the weights need no splitting
    std::vector<Tensor> tensors;  ///< the parts, once they were needed
  };
  Shape shape;  ///< of the view that all the rest describes, with its dtype
  DType dtype;
  std::vector<Packed> packed = {};
  std::vector<Addends> addends = {};
  Tensor shift_correction = {};  ///< −128·Σ w per output channel, s32: for inputs shifted by 128
};
/// Stays where it is for as long as the contents stand.
WeightCache& weight_cache(const Tensor& weights);
std::mutex& weight_cache_mutex();

/// Of a convolution by this number of threads, without a bias.
ConvProblem problem_of(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType source,
                       DType weight, DType destination);

/// y = x ⋆ weights + bias, in the dtypes of the tensors. `bias`: undefined, or O values of s32.
void convolve(const Tensor& x, const Tensor& weights, const Tensor& bias, const ConvGeometry& geometry,
              Tensor& y);
/// dx, in its dtype. dy and weights of one dtype, f32 or bf16.
void convolve_backward_data(const Tensor& dy, const Tensor& weights, const ConvGeometry& geometry,
                            Tensor& dx);
/// The gradient of O,I,H,W weights, f32. x and dy of one dtype, f32 or bf16.
Packed convolve_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                                 const ConvGeometry& geometry);
/// O,I,H,W, f32.
Tensor unpacked(const Packed& gradient, const Shape& weights, int groups);

}  // namespace faq::kernels::onednn
