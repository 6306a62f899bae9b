// Clustered weights in dynamic fixed point (Mellempudi et al., arXiv 1701.08978).
#pragma once

#include "quant/deploy/weights.h"
#include "quant/number_format.h"

namespace faq {

/// Groups of `cluster_size` consecutive input channels of every output channel get a scale each; the scales
/// of a layer are integers of 8 bits with one power of two as their scale, so that every weight, scale·code,
/// is an 8-bit integer with that scale. 2 bits: ternary codes with the best threshold; 3 and 4: the best of
/// evenly spaced ones. weights: O,I,H,W or O,I.
QuantizedWeights cluster_weights(const Tensor& weights, int bits, const NumberFormat& options);

/// More bits than this gain nothing from clusters: such layers have one scale each.
inline constexpr int max_cluster_bits = 4;

}  // namespace faq
