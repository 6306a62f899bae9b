// Pooling and the parameter-free shortcut. Images N,H,W,C. Each writes into a tensor of its own, or into
// `out`, whose scale is the caller's to set.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// Sum over H and W: [N,1,1,C]. f32 → f32; u8 or s8 with a scale → s32 with the same scale (exact).
Tensor global_sum_pool(const Tensor& x);
void global_sum_pool(const Tensor& x, Tensor& out);
/// How sums over so many pixels are to be read as their means. The scale is an f32: x.scale divided by a
/// number of pixels that is no power of two is rounded, by less than one part in 2^23.
FixedPoint mean_format(const FixedPoint& x, std::int64_t pixels);
/// Gradient of the sum, times `factor`: dy spread over `x`'s height and width. dtype of dy.
Tensor global_sum_pool_backward(const Tensor& dy, const Shape& x, float factor);

struct MaxPoolOptions {
  int kernel = 3;
  int stride = 2;
  int padding = 1;
};
/// Kernels of up to 11×11.
Shape max_pool_shape(const Shape& x, const MaxPoolOptions& options);
/// Windows are clipped to the image. Any of f32, u8, s8; the scale is kept.
Tensor max_pool(const Tensor& x, const MaxPoolOptions& options);
void max_pool(const Tensor& x, const MaxPoolOptions& options, Tensor& out);
/// The gradient goes to the first largest element of each window. dtype of dy (f32 or bf16).
Tensor max_pool_backward(const Tensor& dy, const Tensor& x, const MaxPoolOptions& options);

/// Windows of `kernel`² pixels, zeros outside the image counted like others (PyTorch's count_include_pad);
/// or, with `output` > 0, the output×output windows that cover the image: [⌊i·H/output⌋, ⌈(i+1)·H/output⌉)
/// (its AdaptiveAvgPool2d).
struct AvgPoolOptions {
  int kernel = 2;
  int stride = 2;
  int padding = 0;
  int output = 0;
};
Shape avg_pool_shape(const Shape& x, const AvgPoolOptions& options);
/// f32 → f32. u8 and s8 → the same dtype and scale, means rounded half to even.
Tensor avg_pool(const Tensor& x, const AvgPoolOptions& options);
void avg_pool(const Tensor& x, const AvgPoolOptions& options, Tensor& out);
/// Each pixel of a window gets its share; rounding is passed straight through. dtype of dy (f32 or bf16).
Tensor avg_pool_backward(const Tensor& dy, const Shape& x, const AvgPoolOptions& options);

/// He et al.'s shortcut A: every `stride`-th pixel, zero channels added on both sides, (channels − C)/2
/// before. Any dtype; the scale is kept.
Shape subsample_and_pad_shape(const Shape& x, int stride, std::int64_t channels);
Tensor subsample_and_pad(const Tensor& x, int stride, std::int64_t channels);
void subsample_and_pad(const Tensor& x, int stride, std::int64_t channels, Tensor& out);
Tensor subsample_and_pad_backward(const Tensor& dy, const Shape& x, int stride);

}  // namespace faq::kernels
