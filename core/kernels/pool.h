// Pooling and the parameter-free shortcut. Images N,H,W,C.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// Sum over H and W: [N,1,1,C]. f32 → f32; u8 or s8 with a step → s32 with the same step (exact).
Tensor global_sum_pool(const Tensor& x);
/// Gradient of the sum, times `factor`: dy spread over `x`'s height and width. dtype of dy.
Tensor global_sum_pool_backward(const Tensor& dy, const Shape& x, float factor);

struct MaxPoolOptions {
  int kernel = 3;
  int stride = 2;
  int padding = 1;
};
/// Kernels of up to 11×11.
Shape max_pool_shape(const Shape& x, const MaxPoolOptions& options);
/// Windows are clipped to the image. Any of f32, u8, s8; the step is kept.
Tensor max_pool(const Tensor& x, const MaxPoolOptions& options);
/// The gradient goes to the first largest element of each window. dtype of dy (f32 or bf16).
Tensor max_pool_backward(const Tensor& dy, const Tensor& x, const MaxPoolOptions& options);

/// He et al.'s shortcut A: every `stride`-th pixel, zero channels added on both sides, (channels − C)/2
/// before. Any dtype; the step is kept.
Tensor subsample_and_pad(const Tensor& x, int stride, std::int64_t channels);
Tensor subsample_and_pad_backward(const Tensor& dy, const Shape& x, int stride);

}  // namespace faq::kernels
