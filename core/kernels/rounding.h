// Whether a kernel for integers rounds what it sums up in f32.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// s8 O,I,H,W weights that show where a kernel rounds partial sums to f32. With inputs of 255, each output
/// channel sums first as many positive weights of 127 or 126 as its whole sum, the negative ones included,
/// can have below 2^24: most partial sums are then beyond 2^24, half of them odd, where filters are long
/// enough for that. Exposed for its test.
Tensor rounding_probe(const Shape& weights);

/// Whether the kernel for these u8 images, s8 weights and s32 sums rounds nothing but its results (to f32 and
/// back): then a result below 2^24 is exact, however large what it was summed from. Found out once, by trying
/// rounding_probe(); false where that cannot tell.
bool rounds_results_alone(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

}  // namespace faq::kernels
