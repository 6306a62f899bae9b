// Batch normalisation fused with what follows it in a unit: residual sum, ReLU, quantization.
// The input is a convolution's output: f32, or s32 accumulators with a step (value = accumulator × step).
#pragma once

#include <optional>

#include "core/tensor.h"

namespace faq::kernels {

/// Per channel, f32, C elements each.
struct ChannelStatistics {
  Tensor mean;
  Tensor variance;  ///< biased (divided by the number of values)
};

/// Mean and variance over all dimensions but the last of x (f32 or s32 with a step). Chunks of fixed length
/// are combined in order in double, so the result does not depend on the number of threads.
ChannelStatistics channel_statistics(const Tensor& x);

/// What a unit does after its convolution, z = x·scale + shift + residual, then clipping and quantization.
struct NormAct {
  Tensor scale;     ///< C, f32: γ/√(σ²+ε); multiplies values, not accumulators
  Tensor shift;     ///< C, f32: β − μ·γ/√(σ²+ε)
  Tensor residual;  ///< as x in shape, f32, bf16 or integer with a step; undefined: none
  bool relu = true;
  std::optional<FixedPoint> format;  ///< quantize the result to u8 (s8 when signed)
};

/// Training and floating-point forward, computed in f32. Returns f32, or u8/s8 with params.format.
Tensor norm_act(const Tensor& x, const NormAct& params);

struct NormActGrads {
  Tensor dx;         ///< dtype of dy; with respect to the value of x
  Tensor dresidual;  ///< dtype of dy; undefined without a residual
  Tensor dgamma;     ///< C, f32
  Tensor dbeta;      ///< C, f32
};

/// Gradient of norm_act(batch-norm(x)). The mask of ReLU and clipping (straight-through: 1 inside the
/// representable range, ReLU's zero side excluded) is recomputed from x; nothing but x and the residual is
/// saved. With `batch_statistics` the gradient flows through the mean and variance, otherwise they are
/// constants.
NormActGrads norm_act_backward(const Tensor& dy, const Tensor& x, const NormAct& params,
                               const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                               bool batch_statistics, bool want_dresidual);

/// Deployment: q = clamp(round((acc·multiplier + bias + residual·residual_multiplier)), low, high),
/// everything in double so that the result is the correctly rounded one whatever the instruction set. acc:
/// s32; multiplier, bias: C, f32, already divided by the step of the output; residual: u8 or s8, or
/// undefined.
struct Requantize {
  Tensor multiplier;
  Tensor bias;
  float residual_multiplier = 0.0f;  ///< step of the residual ÷ step of the output
  bool relu = true;
  FixedPoint format;
};
Tensor requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params);

/// value = acc·multiplier + bias as f32, computed in double: the logits of an integer network.
Tensor dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias);

}  // namespace faq::kernels
