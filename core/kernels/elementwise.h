// Elementwise kernels without channels: conversion, sums, quantization.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// Converts to f32 or bf16. Integers that have a scale are multiplied by it. u8, s8 × 2^k is exact in bf16.
Tensor convert(const Tensor& x, DType dtype);
/// Converts the integers of an integer tensor to f32 or bf16, without multiplying by the scale.
Tensor convert_unscaled(const Tensor& x, DType dtype);

/// x + y in the dtype of x (f32 or bf16); computed in f32.
Tensor add(const Tensor& x, const Tensor& y);
void add_in_place(Tensor& x, const Tensor& y);
/// x += y for s32 accumulators.
void add_s32_in_place(Tensor& x, const Tensor& y);
/// x *= factor, f32 or bf16.
void scale_in_place(Tensor& x, float factor);
/// x += share·(y − x), f32. Equal elements stay as they are.
void move_towards(Tensor& x, const Tensor& y, float share);

/// x·factor where `keep` (u8, the shape of x) is not 0, else 0, in the dtype of x. x: f32 or bf16, or u8 or
/// s8 with a scale. For integers the factor goes into the scale, which is rounded to f32.
Tensor masked(const Tensor& x, const Tensor& keep, float factor);

/// clamp(round(x / scale), min, max) as u8 or s8. x: f32, or an integer tensor with a scale.
Tensor quantize(const Tensor& x, const FixedPoint& format);
/// grad where x is in the range that `format` represents, else 0: the straight-through estimator of quantize
/// (FAQ, section 2.1). x: as in quantize; grad: f32 or bf16; the result has the dtype of grad.
Tensor quantize_backward(const Tensor& grad, const Tensor& x, const FixedPoint& format);

/// max(x, 0) and its gradient (dy where y > 0, else 0). f32.
Tensor relu(const Tensor& x);
Tensor relu_backward(const Tensor& dy, const Tensor& y);

/// tanh(x) and its gradient dy·(1 − y²). x and y: f32; dy: f32 or bf16; the gradient has the dtype of dy.
Tensor tanh(const Tensor& x);
Tensor tanh_backward(const Tensor& dy, const Tensor& y);

/// True if every element is finite. f32.
bool all_finite(const Tensor& x);
/// The sum of squares, in double. f32.
double sum_of_squares(const Tensor& x);

}  // namespace faq::kernels
