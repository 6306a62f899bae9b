// Pooling and the parameter-free shortcut. Images N,H,W,C. Each function returns a new tensor, or writes into
// `out`, whose scale the caller sets.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// Sum over H and W: [N,1,1,C]. f32 → f32; u8 or s8 with a scale → s32 with the same scale (exact).
Tensor global_sum_pool(const Tensor& x);
void global_sum_pool(const Tensor& x, Tensor& out);
/// The format that reads sums over `pixels` pixels as means. Its scale x.scale/pixels is an f32: if `pixels`
/// is not a power of two it is rounded, by less than one part in 2^23.
FixedPoint mean_format(const FixedPoint& x, std::int64_t pixels);
/// The gradient of the sum, times `factor`: dy at every pixel of x. The result has the dtype of dy.
Tensor global_sum_pool_backward(const Tensor& dy, const Shape& x, float factor);

struct MaxPoolOptions {
  int kernel = 3;
  int stride = 2;
  int padding = 1;
};
/// Throws for kernels larger than 11×11.
Shape max_pool_shape(const Shape& x, const MaxPoolOptions& options);
/// Maximum of each window. Windows are clipped to the image. x: f32, u8 or s8; the scale is kept.
Tensor max_pool(const Tensor& x, const MaxPoolOptions& options);
void max_pool(const Tensor& x, const MaxPoolOptions& options, Tensor& out);
/// The gradient goes to the first largest element of each window. The result has the dtype of dy (f32 or
/// bf16).
Tensor max_pool_backward(const Tensor& dy, const Tensor& x, const MaxPoolOptions& options);

/// Windows of `kernel`² pixels; zeros outside the image count like pixels (PyTorch's count_include_pad). With
/// `output` > 0, instead, output×output windows that cover the image: [⌊i·H/output⌋, ⌈(i+1)·H/output⌉)
/// (PyTorch's AdaptiveAvgPool2d).
struct AvgPoolOptions {
  int kernel = 2;
  int stride = 2;
  int padding = 0;
  int output = 0;
};
Shape avg_pool_shape(const Shape& x, const AvgPoolOptions& options);
/// Mean of each window. f32 → f32. u8 and s8 → the same dtype and scale; means are rounded half to even.
Tensor avg_pool(const Tensor& x, const AvgPoolOptions& options);
void avg_pool(const Tensor& x, const AvgPoolOptions& options, Tensor& out);
/// Each pixel of a window gets its share of the gradient. The rounding is straight-through. The result has
/// the dtype of dy (f32 or bf16).
Tensor avg_pool_backward(const Tensor& dy, const Shape& x, const AvgPoolOptions& options);

/// Shortcut A of He et al.: takes every `stride`-th pixel and adds zero channels on both sides, of which
/// (channels − C)/2 come first. Any dtype; the scale is kept.
Shape subsample_and_pad_shape(const Shape& x, int stride, std::int64_t channels);
Tensor subsample_and_pad(const Tensor& x, int stride, std::int64_t channels);
void subsample_and_pad(const Tensor& x, int stride, std::int64_t channels, Tensor& out);
Tensor subsample_and_pad_backward(const Tensor& dy, const Shape& x, int stride);

}  // namespace faq::kernels
