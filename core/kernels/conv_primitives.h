// Convolutions as oneDNN executes them: no exactness, no checks. Included by core/kernels/*.cpp only.
#pragma once

#include <mutex>
#include <vector>

#include "core/kernels/conv.h"
#include "core/kernels/onednn.h"

namespace faq::kernels::onednn {

/// What is kept with a weight tensor for as long as its contents stand: its layouts for oneDNN and, for
/// integer weights, its exact addends. Images may run through one network in several threads: whoever looks
/// into a cache holds weight_cache_mutex().
struct WeightCache {
  struct Packed {
    dnnl::memory::desc desc;
    Tensor storage;
  };
  struct Addends {
    int max_input;
    int max_magnitude;
    std::vector<Tensor> tensors;  ///< empty: the weights need no splitting
  };
  std::vector<Packed> packed;
  std::vector<Addends> addends;
  Tensor channel_sums;  ///< Σ w per output channel, s32
};
WeightCache& weight_cache(const Tensor& weights);
std::mutex& weight_cache_mutex();

/// y = x ⋆ weights + bias, in the dtypes of the tensors. `bias`: undefined, or O values of s32.
void convolve(const Tensor& x, const Tensor& weights, const Tensor& bias, const ConvOptions& options,
              Tensor& y);
/// dx, in its dtype. dy and weights of one dtype, f32 or bf16.
void convolve_backward_data(const Tensor& dy, const Tensor& weights, const ConvOptions& options, Tensor& dx);
/// dw, f32, O,I,H,W. x and dy of one dtype, f32 or bf16.
void convolve_backward_weights(const Tensor& x, const Tensor& dy, const ConvOptions& options, Tensor& dw);

}  // namespace faq::kernels::onednn
