// Turns accumulators of a deployed network into the next integers, or into logits.
#pragma once

#include "core/activation.h"
#include "core/tensor.h"

namespace faq::kernels {

/// What requantize() (requantizer.h) computes in deployment: q = clamp(round((acc·multiplier + bias +
/// residual·residual_multiplier)), low, high). The result is correctly rounded, half to even, on every
/// instruction set: where a value comes so near a tie that f32 and double might err, it is computed exactly.
/// acc: s32 (u8 or s8 without a residual); multiplier, bias: C, f32, already divided by the scale of the
/// output; residual: u8 or s8, or undefined.
struct Requantize {
  Tensor multiplier;
  Tensor bias;
  float residual_multiplier = 0.0f;  ///< scale of the residual ÷ scale of the output
  Activation activation = Activation::relu;
  FixedPoint format;
};

/// value = acc·multiplier + bias as f32, computed in double: the logits of an integer network.
Tensor dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias);
void dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias, Tensor& out);

}  // namespace faq::kernels
