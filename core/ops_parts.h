// What an operation and its fused form share. For core/ops_*.cpp.
#pragma once

#include <optional>

#include "core/kernels/norm.h"
#include "core/ops.h"

namespace faq {

/// y = x ⋆ w:  dx = dy ⋆ᵀ w,  dw = x ⋆ dy, both computed in grad_format. `weights` is what the forward pass
/// used (f32, or s8 with a scale).
struct ConvBackward {
  Tensor x;
  kernels::PackedWeights weights;
  ConvGeometry geometry;
  GradFormat grad_format;
  bool dx_wanted;  ///< false for images

  Tensor dx(const Tensor& dy) const;
  Tensor dw(const Tensor& dy) const;
  Grads operator()(const Tensor& dy) const;

  /// Some images of x as an operand: u8 and s8, which are exact in bf16, as they are, else in grad_format.
  Tensor operand(const Tensor& images) const;
  /// The gradient of the weights from that with respect to operand().
  Tensor scaled(Tensor gradient) const;
};

void check_quantized(const Var& w, const kernels::PackedWeights& quantized);

/// A normalisation on its way: what forward and backward pass are computed from.
struct Normalization {
  Tensor x;
  kernels::NormAct params;
  kernels::ChannelStatistics statistics;
  Tensor gamma;
  float eps;
  bool batch_statistics;
  bool has_conv_bias;

  kernels::NormActBackward backward(const Tensor& dy) const;
  /// Of the bias of the convolution before, from that of beta (Σ dz).
  Tensor dconv_bias(const Tensor& dbeta) const;
  /// What `pass` found for the inputs add_norm_inputs() has listed.
  Grads grads(const kernels::NormActBackward& pass, const Tensor& dresidual) const;
};
/// The normalisation's parameters, and the residual if there is one.
void add_norm_inputs(const NormState& norm, const Var& residual, std::vector<Var>& inputs);
/// `batch`: the statistics of x, when they are known already.
Normalization prepare_norm_act(const Tensor& x, const NormState& norm, const Var& residual,
                               const NormActOptions& options,
                               std::optional<kernels::ChannelStatistics> batch = {});
/// Hands the batch's statistics on to who asks for them.
void tell(const Normalization& n, LearnedStatistics* learned);

}  // namespace faq
