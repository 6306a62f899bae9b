// Batch normalisation fused with what follows it in a unit: residual sum, activation, quantization.
// The input is f32, or integers with a step (value = integer × step): a convolution's accumulators, s32 or
// s16 when they fit, or what was quantized already, u8 or s8.
#pragma once

#include <optional>
#include <vector>

#include "core/activation.h"
#include "core/kernels/statistics.h"
#include "core/tensor.h"

namespace faq::kernels {

/// What a unit does after its convolution, z = x·scale + shift + residual, then clipping and quantization.
struct NormAct {
  Tensor scale;     ///< C, f32: γ/√(σ²+ε); multiplies values, not accumulators
  Tensor shift;     ///< C, f32: β − μ·γ/√(σ²+ε)
  Tensor residual;  ///< as x in shape, f32, bf16 or integer with a step; undefined: none
  Activation activation = Activation::relu;
  std::optional<FixedPoint> format;  ///< quantize the result to u8 (s8 when signed)
};

/// Training and floating-point forward, computed in f32. Returns f32, or u8/s8 with params.format.
Tensor norm_act(const Tensor& x, const NormAct& params);

/// Gradient of norm_act(batch-norm(x)), in the two passes it takes: construction reduces, apply() then writes
/// any images wanted. The mask of activation and clipping (straight-through: 1 inside the representable
/// range, the lower end of the activation excluded) is recomputed from x in both; nothing but x and the
/// residual is saved.
class NormActBackward {
 public:
  /// dy: f32 or bf16. With `batch_statistics` the gradient flows through the mean and variance, otherwise
  /// they are constants.
  NormActBackward(const Tensor& dy, const Tensor& x, const NormAct& params,
                  const ChannelStatistics& statistics, const Tensor& gamma, float eps, bool batch_statistics);

  const Tensor& dgamma() const { return dgamma_; }  ///< C, f32
  const Tensor& dbeta() const { return dbeta_; }    ///< C, f32

  /// The gradients of images [begin, end), which dx and dresidual (undefined: not wanted) have room for; f32
  /// or bf16. dx is with respect to the value of x.
  void apply(std::int64_t begin, std::int64_t end, Tensor& dx, Tensor& dresidual) const;

 private:
  void reduce(const ChannelStatistics& statistics, const Tensor& gamma, float eps, bool batch_statistics);

  Tensor dy_, x_;
  NormAct params_;
  ChannelBlocks blocks_;
  Tensor dgamma_, dbeta_;
  std::vector<float> a_, b_, c_;  ///< dx = a·dz + b·x + c, a block long
};

}  // namespace faq::kernels
