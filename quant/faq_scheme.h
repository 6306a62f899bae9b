// FAQ's quantizer: fixed point with power-of-two scales (McKinstry et al., arXiv 1809.04191).
#pragma once

#include "core/tensor.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// No scale is smaller: half of it a few times over is still a normal number, and so is its inverse.
constexpr float least_scale = 0x1p-120f;

/// The smallest power of two 2^l, at least least_scale, with max·2^l ≥ magnitude. 1 for a magnitude of 0.
float covering_scale(float magnitude, int max);

/// Format of a weight tensor (signed, `bits`), chosen from its current values.
FixedPoint choose_weight_format(const Tensor& weights, int bits, WeightScale how);

/// The percentile of the options, or the default for that many bits.
double calibration_percentile(int bits, const NumberFormat& options);

/// Format of an activation from its histogram: covering_scale of the percentile or of the largest value, or
/// the power of two with the smallest squared error.
FixedPoint choose_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                    const NumberFormat& options);

}  // namespace faq
