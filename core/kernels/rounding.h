// Tests whether an integer kernel rounds its partial sums in f32.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Returns s8 O,I,H,W weights that reveal a kernel which rounds partial sums to f32. Inputs are 255. Each
/// output channel first sums positive weights of 127 or 126, as many as possible while the whole sum, with
/// the negative weights, stays below 2^24. In filters that are long enough, most partial sums are then beyond
/// 2^24, and half of them are odd. Public for its test.
Tensor rounding_probe(const Shape& weights);

/// True if the kernel for these images (u8 or s8), s8 weights and s32 sums rounds only whole sums of bytes
/// (to f32 and back). Then a sum below 2^24 is exact, however large its partial sums were. The bytes of
/// signed images are shifted by 128, and what that adds is subtracted after rounding. `with_bias`: the kernel
/// adds one, s32. Tested once per problem with rounding_probe(); false where the test cannot tell.
bool rounds_results_alone(const Shape& x, DType images, const Shape& weights, bool with_bias,
                          const ConvGeometry& geometry);

}  // namespace faq::kernels
