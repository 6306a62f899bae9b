// Differentiable operations. Each stands with its gradient in ops_*.cpp; images are N,H,W,C.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "core/activation.h"
#include "core/grad_format.h"
#include "core/kernels/conv.h"
#include "core/kernels/pool.h"
#include "core/var.h"

namespace faq {

// --- convolution and linear maps (ops_conv.cpp)
// ----------------------------------------------------------------

/// y = x ⋆ w. x: f32 N,H,W,C; w: f32 O,I/G,H,W. `grad_format`: what the backward pass computes in. `packed`:
/// the value of w, if the caller keeps it packed.
Var conv2d(const Var& x, const Var& w, const ConvGeometry& geometry, const GradFormat& grad_format = {},
           const kernels::PackedWeights& packed = {});

/// The integer convolution of a quantized input with quantized weights.
/// x: u8 or s8 with a scale; w: the f32 master copy; `quantized`: Q(w), s8 with a scale. The value is s32
/// accumulators with scale x.scale·w.scale; gradients use Q(w) and pass straight through to w (FAQ,
/// section 2.1).
Var conv2d_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                   const ConvGeometry& geometry, Engine engine, const GradFormat& grad_format);

/// y = x·wᵀ + b. x: N,C; w: O,C; b: O.
Var linear(const Var& x, const Var& w, const Var& b, const GradFormat& grad_format = {},
           const kernels::PackedWeights& packed = {});

/// As conv2d_integer, with the f32 result acc·scale + b. x: u8 or s8, N,C.
Var linear_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized, const Var& b,
                   Engine engine, const GradFormat& grad_format);

// --- normalisation (ops_norm.cpp)
// ------------------------------------------------------------------------------

struct NormActOptions {
  Activation activation = Activation::relu;
  std::optional<FixedPoint> format = {};  ///< quantize the output
  bool batch_statistics = true;           ///< normalise with those of the batch, else with the running ones
};

/// Parameters and running statistics of a batch-norm, C elements each.
struct NormState {
  Var gamma, beta;
  Tensor running_mean, running_variance;
  /// Of the convolution before, if it has one: not added to x, as the normalisation takes it away again, but
  /// part of the running mean. Its gradient is 0 with the statistics of the batch; with the running ones,
  /// which do not follow it, γ/√(σ²+ε)·Σ dz, z being what ReLU and quantization get.
  Var conv_bias = {};
  float eps = 1e-5f;
  float momentum = 0.1f;  ///< running ← (1−m)·running + m·batch, PyTorch's convention
};

/// The running mean of what the convolution makes without its bias.
Tensor mean_without_bias(const NormState& norm);

/// What a normalisation found in its batch, C elements each: the mean (of the convolution without its bias)
/// and the biased variance of `values` values per channel. Undefined where it used the running statistics.
struct LearnedStatistics {
  Tensor mean, variance;
  std::int64_t values = 0;
};
/// running ← (1 − momentum)·running + momentum·batch; as in PyTorch the variance is the unbiased one.
void update_running(NormState& norm, const LearnedStatistics& batch, float momentum);

/// y = Q(activation(γ·(x−μ)/√(σ²+ε) + β + residual)). x: f32, or integers (s32, s16, s8, u8) with a scale;
/// residual (may be undefined): f32, bf16, or u8 or s8 with a scale. The gradient is 1 inside the
/// representable range and 0 where the value was clipped. `learned`: receives the statistics of the batch;
/// null: nobody asks.
Var norm_act(const Var& x, const NormState& norm, const Var& residual, const NormActOptions& options,
             LearnedStatistics* learned = nullptr);

// --- a whole unit (ops_unit.cpp)
// ------------------------------------------------------------------------------

/// norm_act(conv2d_integer(x, w)) with the same values and gradients, fused: the accumulators are normalised,
/// and their gradient used, slice by slice while they are in the cache.
Var conv_norm_act_integer(const Var& x, const Var& w, const kernels::PackedWeights& quantized,
                          const NormState& norm, const Var& residual, const ConvGeometry& geometry,
                          Engine engine, const GradFormat& grad_format, const NormActOptions& norm_options,
                          LearnedStatistics* learned = nullptr);

// --- the rest (ops_basic.cpp)
// ----------------------------------------------------------------------------------

/// Mean over H and W, N,C. f32 → f32; u8 or s8 → s32 sums with scale x.scale/(H·W): exact.
Var global_avg_pool(const Var& x);
Var max_pool(const Var& x, const kernels::MaxPoolOptions& options);
/// f32, or integers whose means are rounded (straight-through gradient).
Var avg_pool(const Var& x, const kernels::AvgPoolOptions& options);
/// Along the channels: f32, or integers of one format.
Var concat_channels(std::span<const Var> parts);
/// Zeroes what `keep` (u8 of the shape of x) has as 0 and multiplies the rest by 1/(1 − p). Integers take the
/// factor into their scale: it must be a power of two.
Var dropout(const Var& x, const Tensor& keep, float p);
/// The same elements in another shape.
Var reshape(const Var& x, const Shape& shape);
/// `value` instead of x, of the same shape; the gradient passes straight through to x.
Var straight_through(const Var& x, Tensor value);
/// f32: the numbers integers stand for; f32 stays what it is.
Var to_float(const Var& x);
/// He et al.'s shortcut A (see kernels::subsample_and_pad); x itself when nothing changes.
Var subsample_and_pad(const Var& x, int stride, std::int64_t channels);
/// clamp(round(x/scale)); straight-through gradient inside the representable range, 0 where clipped.
Var quantize(const Var& x, const FixedPoint& format);
/// max(x, 0).
Var relu(const Var& x);
/// tanh(x).
Var tanh(const Var& x);
/// x + y of one shape, f32.
Var add(const Var& x, const Var& y);
/// x · factor, f32.
Var scale(const Var& x, float factor);
/// Mean softmax cross-entropy of N,K logits: a scalar.
Var cross_entropy(const Var& logits, std::span<const std::int32_t> labels, float label_smoothing = 0.0f);
/// Mean over the rows of KL(softmax(target) ‖ softmax(logits)), N,K both: a scalar. `target` is a constant.
Var kl_divergence(const Var& logits, const Tensor& target);

}  // namespace faq
