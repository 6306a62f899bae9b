// The quantizer of FAQ: fixed point with power-of-two scales (McKinstry et al., arXiv 1809.04191).
#pragma once

#include "core/tensor.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// The smallest scale. It can be halved a few times and is still a normal number, and so is its inverse.
constexpr float least_scale = 0x1p-120f;

/// Returns the smallest power of two 2^l, at least least_scale, with max·2^l ≥ magnitude. Returns 1 for a
/// magnitude of 0.
float covering_scale(float magnitude, int max);

/// Chooses the format of a weight tensor (signed, `bits`) from its current values.
FixedPoint choose_weight_format(const Tensor& weights, int bits, WeightScale how);

/// Returns the percentile set in the options, or else the default for that number of bits.
double calibration_percentile(int bits, const NumberFormat& options);

/// Chooses the format of an activation from its histogram. The scale is covering_scale of the percentile or
/// of the largest value, or the power of two with the smallest squared error.
FixedPoint choose_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                    const NumberFormat& options);

}  // namespace faq
