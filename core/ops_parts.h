// Code shared by operations and their fused forms. For core/ops_*.cpp only.
#pragma once

#include <optional>

#include "core/kernels/norm.h"
#include "core/kernels/quad_gradient.h"
#include "core/kernels/unit.h"
#include "core/kernels/weight_gradient.h"
#include "core/ops.h"

namespace faq {

/// The gradient of a convolution's input, or of some images of it.
struct InputGradient {
  Tensor values;      ///< undefined: not wanted
  bool adds = false;  ///< to what the values are already

  explicit operator bool() const { return values.defined(); }
  InputGradient rows(std::int64_t first, std::int64_t last) const {
    return {values ? values.rows(first, last) : Tensor(), adds};
  }
};

/// The backward pass of y = x ⋆ w:  dx = dy ⋆ᵀ w,  dw = x ⋆ dy, both computed in grad_format. `weights`: the
/// weights of the forward pass (f32, or s8 with a scale).
struct ConvBackward {
  Tensor x;
  kernels::PackedWeights weights;
  ConvGeometry geometry;
  GradFormat grad_format;
  bool dx_wanted;                   ///< false where x is the images: dx is not computed
  Engine engine = Engine::integer;  ///< of 8-bit gradients of the data
  RoundingKeys keys = {};           ///< of 8-bit gradients

  Grads operator()(const Tensor& dy) const;

  /// True if the gradient of the weights, or that of the data, is a product of 8-bit integers.
  bool has_integer_weight_gradient() const;
  bool has_integer_data_gradient() const;
  /// The dtype that the other gradients are computed in.
  DType float_dtype() const;

  /// Where dx goes: to `sum`, the gradient that x has got from other ops, if there is one.
  InputGradient input_gradient(const Tensor& sum = {}) const;

  /// Some images of x as an operand in floating point: u8 and s8 stay as they are, because they are exact in
  /// bf16; others are converted to float_dtype().
  Tensor operand(const Tensor& images) const;
  /// The weights as an operand, in float_dtype(): bare integers, because those are exact in bf16.
  kernels::PackedWeights operand() const;
  /// The factors of dy by output channel that go with operand(): the scales of integers; undefined: none.
  Tensor factors() const;
  /// Computes the gradient of some images in floating point. dy: of their outputs, float_dtype(); `packed`:
  /// operand().
  void data_gradient(const Tensor& dy, const kernels::PackedWeights& packed, InputGradient dx) const;
  /// By output channel, what turns the gradient with respect to operand(images), made with dy·factors(), into
  /// the gradient of the weights; undefined: nothing.
  Tensor weight_factors() const;
  /// gradient · weight_factors()
  Tensor scaled(Tensor gradient) const;
};

/// The gradients of a convolution of which at least one is a product of 8-bit integers, group by group
/// (ops_integer_backward.cpp).
class IntegerBackward {
 public:
  /// `conv` must live as long.
  explicit IntegerBackward(const ConvBackward& conv);

  const kernels::ImageGroups& groups() const { return groups_; }
  /// True if some gradient needs dy in floating point, too.
  bool needs_float() const { return needs_float_; }
  /// rounded, in_float: the gradient of a group's outputs, times the factors of `conv`. in_float: f32;
  /// undefined unless needs_float(). dx: of its images. Thread-safe for groups of different shares.
  void add(std::int64_t group, int share, const kernels::RoundedGradient& rounded, const Tensor& in_float,
           InputGradient dx);
  /// The gradient of the weights. Nothing may be added after it.
  Tensor weight_gradient();

 private:
  const ConvBackward& conv_;
  const bool integer_weights_, integer_data_, needs_float_;
  kernels::ImageGroups groups_;
  std::optional<kernels::QuadGradient> quads_;
  std::optional<kernels::WeightGradient> in_float_;
};

void check_quantized(const Var& w, const kernels::PackedWeights& quantized);

/// All that the forward and the backward pass of a normalisation are computed from.
struct Normalization {
  Tensor x;
  kernels::NormActParams params;
  kernels::ChannelStatistics statistics;
  Tensor gamma;
  float eps;
  bool batch_statistics;
  bool has_conv_bias;
  bool learns_scale;  ///< of the output's format

  /// factors, with_rounding: see NormActBackwardOptions.
  kernels::NormActBackward backward(const Tensor& dy, const Tensor& factors = {},
                                    bool with_rounding = false) const;
  /// The gradient of the bias of the convolution in front, from the gradient of beta (Σ dz).
  Tensor dconv_bias(const Tensor& dbeta) const;
  /// The gradients of the inputs that add_norm_inputs() lists, from `pass`.
  Grads grads(const kernels::NormActBackward& pass, const Tensor& dresidual) const;
};
/// Adds the normalisation's parameters, and the residual and the learned scale if there are, to `inputs`.
void add_norm_inputs(const NormState& norm, const Var& residual, const NormActOptions& options,
                     std::vector<Var>& inputs);
/// Prepares a normalisation. `batch`: the statistics of x, if they are known already. `x_scales`: see
/// NormActParams.
Normalization prepare_norm_act(const Tensor& x, const NormState& norm, const Var& residual,
                               const NormActOptions& options,
                               std::optional<kernels::ChannelStatistics> batch = {},
                               const Tensor& x_scales = {});
/// Copies the batch's statistics to `learned`, if it is not null and the normalisation used them.
void tell(const Normalization& n, LearnedStatistics* learned);

}  // namespace faq
