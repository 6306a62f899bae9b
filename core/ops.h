// Differentiable operations. The gradient of each stands beside it in ops_*.cpp. Images are N,H,W,C.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/activation.h"
#include "core/grad_format.h"
#include "core/kernels/conv.h"
#include "core/kernels/pool.h"
#include "core/rounding_keys.h"
#include "core/var.h"

namespace faq {

// --- convolution and linear maps (ops_conv.cpp)

/// y = x ⋆ w. x: f32 N,H,W,C; w: f32 O,I/G,H,W. `grad_format`: the format that the backward pass computes in.
/// `packed`: the value of w in packed form, if the caller has it. `operands`: f32, or bf16, to which x and w
/// are rounded before they are multiplied, and which the backward pass then gets; sums are f32.
Var conv2d(const Var& x, const Var& w, const ConvGeometry& geometry, const GradFormat& grad_format = {},
           const kernels::PackedWeights& packed = {}, DType operands = DType::f32);

/// Convolves a quantized input with quantized weights, in integers. x: u8 or s8 with a scale; w: the f32
/// master copy; `quantized`: Q(w), s8 with one scale. The value is s32 accumulators with scale
/// x.scale·w.scale. Gradients are computed with Q(w); the gradient of w is straight-through (FAQ,
/// section 2.1). `keys`: 8-bit gradients need them.
Var conv2d_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                   const ConvGeometry& geometry, Engine engine, const GradFormat& grad_format,
                   const RoundingKeys& keys = {});

/// y = x·wᵀ + b. x: N,C; w: O,C; b: O. The others: see conv2d.
Var linear(const Var& x, const Var& w, const Var& b, const GradFormat& grad_format = {},
           const kernels::PackedWeights& packed = {}, DType operands = DType::f32);

/// As conv2d_integer for a fully connected layer. The result is f32, acc·scale + b. x: u8 or s8, N,C.
Var linear_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized, const Var& b,
                   Engine engine, const GradFormat& grad_format, const RoundingKeys& keys = {});

// --- normalisation (ops_norm.cpp)

struct NormActOptions {
  Activation activation = Activation::relu;
  std::optional<FixedPoint> format = {};  ///< if set, the output is quantized to this format
  bool batch_statistics = true;  ///< normalise with the batch's statistics, else with the running ones
  /// The scale of `format` as a parameter of one element; it gets its gradient (ops_learned_scale.cpp).
  /// Undefined: the scale is a constant.
  Var scale = {};
};

/// Parameters and running statistics of a batch-norm, C elements each.
struct NormState {
  Var gamma, beta;
  Tensor running_mean, running_variance;
  /// The bias of the convolution in front, if it has one. It is not added to x, because the normalisation
  /// would subtract it again. But it is part of the running mean. Its gradient is 0 with the statistics of
  /// the batch. With the running statistics, which do not follow the bias, it is γ/√(σ²+ε)·Σ dz, where z is
  /// the input of ReLU and quantization.
  Var conv_bias = {};
  float eps = 1e-5f;
  float momentum = 0.1f;  ///< running ← (1−m)·running + m·batch, PyTorch's convention
};

/// The running mean of the convolution's output without its bias.
Tensor mean_without_bias(const NormState& norm);

/// The statistics of a batch, C elements each: the mean (of the convolution's output without its bias) and
/// the biased variance of `values` values per channel. Undefined when the normalisation used the running
/// statistics.
struct LearnedStatistics {
  Tensor mean, variance;
  std::int64_t values = 0;
};
/// The factor that makes the variance unbiased: n/(n − 1); 1 for one value.
float unbiasing(const LearnedStatistics& batch);
/// running ← (1 − momentum)·running + momentum·batch. The variance is made unbiased first, as in PyTorch.
void update_running(NormState& norm, const LearnedStatistics& batch, float momentum);

/// y = Q(activation(γ·(x−μ)/√(σ²+ε) + β + residual)). x: f32, or integers (s32, s16, s8, u8) with a scale.
/// residual (may be undefined): f32, bf16, or u8 or s8 with a scale. The gradient of Q and the activation is
/// 1 inside the representable range and 0 where the value was clipped. `learned`: receives the statistics of
/// the batch; may be null. With options.scale, y has the same integers, and the scale gets the gradient of
/// learned_rounding, of the values that the activation leaves.
Var norm_act(const Var& x, const NormState& norm, const Var& residual, const NormActOptions& options,
             LearnedStatistics* learned = nullptr);

// --- a whole unit (ops_unit.cpp)

/// norm_act(conv2d_integer(x, w)), fused. Values and gradients are the same. It works slice by slice: the
/// accumulators are normalised, and their gradient is used, while they are in the cache. Q(w) may have a
/// scale for each output channel.
Var conv_norm_act_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                          const NormState& norm, const Var& residual, const ConvGeometry& geometry,
                          Engine engine, const GradFormat& grad_format, const NormActOptions& norm_options,
                          LearnedStatistics* learned = nullptr, const RoundingKeys& keys = {});

// --- learned scales (ops_learned_scale.cpp): LSQ, Esser et al., ICLR 2020, arXiv 1902.08153

/// Puts the rounding of weights on the tape: the value is w, and the gradient is that of ŵ = s·q with
/// q = clamp(round(w/s)). `scales`: one for all of w, or one for each row. `format`: bits and sign.
Var learned_rounding(const Var& w, const Var& scales, const FixedPoint& format);
/// quantize(x, format) with the scale of the format as a parameter of one element.
Var quantize(const Var& x, const FixedPoint& format, const Var& scale);
/// y, and a gradient of 0 for each of `idle`: parameters that have no part in y this time. Undefined ones are
/// left out.
Var with_idle(const Var& y, std::span<const Var> idle);

// --- the rest (ops_basic.cpp)

/// Mean over H and W; the result is N,C. f32 → f32; u8 or s8 → s32 sums with scale x.scale/(H·W), which is
/// exact.
Var global_avg_pool(const Var& x);
Var max_pool(const Var& x, const kernels::MaxPoolOptions& options);
/// Means of windows. x: f32, or integers; the means of integers are rounded (straight-through gradient).
Var avg_pool(const Var& x, const kernels::AvgPoolOptions& options);
/// Concatenates along the channels. f32, or integers that all have one format.
Var concat_channels(std::span<const Var> parts);
/// Sets the elements to 0 where `keep` (u8, the shape of x) is 0, and multiplies the others by 1/(1 − p). For
/// integers the factor goes into the scale, so it must be a power of two.
Var dropout(const Var& x, const Tensor& keep, float p);
/// Returns the same elements in another shape.
Var reshape(const Var& x, const Shape& shape);
/// Images as pixels with all their values: N,1,1,C·H·W, in the order of PyTorch's flatten, which is that of a
/// filter as large as the image. u8 and s8 keep their scale.
Var flatten(const Var& x);
/// Returns `value`, which has the shape of x, instead of x. The gradient goes to x unchanged.
Var straight_through(const Var& x, Tensor value);
/// Converts integers to the real numbers they stand for, f32. Returns f32 as it is.
Var to_float(const Var& x);
/// Shortcut A of He et al. (see kernels::subsample_and_pad). Returns x itself when nothing changes.
Var subsample_and_pad(const Var& x, int stride, std::int64_t channels);
/// clamp(round(x/scale)); straight-through gradient inside the representable range, 0 where clipped.
Var quantize(const Var& x, const FixedPoint& format);
/// max(x, 0), f32. Integers are taken as the real numbers they stand for; so a network that is to be deployed
/// has the activation in its convolution (ConvNormActOptions::activation).
Var relu(const Var& x);
/// tanh(x), f32. Integers as in relu().
Var tanh(const Var& x);
/// x + y of one shape, f32.
Var add(const Var& x, const Var& y);
/// x · factor, f32.
Var scale(const Var& x, float factor);
/// Mean softmax cross-entropy of logits N,K: a scalar.
Var cross_entropy(const Var& logits, std::span<const std::int32_t> labels, float label_smoothing = 0.0f);
/// Mean over the rows of KL(softmax(target) ‖ softmax(logits)), both N,K: a scalar. `target` is a constant.
Var kl_divergence(const Var& logits, const Tensor& target);

}  // namespace faq
