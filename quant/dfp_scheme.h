// Clustered weights in dynamic fixed point (Mellempudi et al., arXiv 1701.08978).
#pragma once

#include "quant/deploy/weights.h"
#include "quant/number_format.h"

namespace faq {

/// Quantizes weights in clusters. weights: O,I,H,W or O,I.
///
/// Each group of `cluster_size` consecutive input channels of an output channel has its own scale. The scales
/// of a layer are 8-bit integers with one power of two as their common scale. So every weight, scale·code, is
/// an 8-bit integer with that scale.
///
/// The codes: with 2 bits ternary codes with the best threshold, with 3 and 4 bits evenly spaced codes with
/// the best scale. Throws for other numbers of bits.
QuantizedWeights cluster_weights(const Tensor& weights, int bits, const NumberFormat& options);

/// Clusters bring no gain above this number of bits: layers with more bits have one scale each.
inline constexpr int max_cluster_bits = 4;

}  // namespace faq
