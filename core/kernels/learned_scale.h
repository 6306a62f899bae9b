// Rounding with learned scales: LSQ, Esser et al., ICLR 2020, arXiv 1902.08153, section 2.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// x: f32, or integers with a scale, N rows (a row is one index of the first dimension). `scales`: f32, one
/// for all rows or one for each. `format`: bits and sign; its own scale is not used. q = clamp(round(x/s)).
///
/// Returns q as s8 for an f32 x. Its FixedPoint has the one scale; with a scale for each row, it has scale 1.
/// format must be signed.
Tensor quantize_rows(const Tensor& x, const Tensor& scales, const FixedPoint& format);

/// The gradients of y = q·s (equation 3 of the paper).
struct RoundingGradients {
  Tensor dx;       ///< dy where x is inside the range of the format, else 0; in the dtype of dy
  Tensor dscales;  ///< f32, one for each scale: Σ dy·(q − x/s) inside the range, Σ dy·q elsewhere
};
/// dy: f32 or bf16.
RoundingGradients rounding_gradients(const Tensor& dy, const Tensor& x, const Tensor& scales,
                                     const FixedPoint& format);

/// The factor of a scale's gradient, 1/√(values·largest integer) (section 2.2). `values`: the weights that
/// have the scale, or the activations of one image.
float scale_gradient_factor(std::int64_t values, const FixedPoint& format);

/// x[row] *= factors[row], f32 or bf16.
void scale_rows_in_place(Tensor& x, const Tensor& factors);
/// x·factors, f32, with one factor for each index of the last dimension. x: f32 or bf16.
Tensor scaled_channels(const Tensor& x, const Tensor& factors);

/// Keeps scales positive: limits a step to halving or doubling them, and their values to at least `least`.
/// `before`: the values before the step. f32.
void limit_step(Tensor& scales, const Tensor& before, float least);

}  // namespace faq::kernels
