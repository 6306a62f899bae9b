// Where learned scales start (LSQ: Esser, McKinstry et al., ICLR 2020, arXiv 1902.08153). How they learn:
// core/kernels/learned_scale.h.
#pragma once

#include "core/tensor.h"
#include "quant/number_format.h"

namespace faq {

/// Returns the first scales of a layer's weights, f32: one element, or one per row (output channel) with
/// ScaleSharing::channel. They are `mse`: those of least squared error, to an eighth of an octave; `max`: the
/// smallest that clip nothing; `mean`: 2·mean|w|/√(2^(bits−1) − 1), as in the paper (section 2.1). Weights
/// that are all 0 get 1.
Tensor starting_scales(const Tensor& weights, int bits, const NumberFormat& options);

}  // namespace faq
