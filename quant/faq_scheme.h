// The quantizer of FAQ: fixed point with power-of-two scales (McKinstry et al., arXiv 1809.04191).
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// The smallest scale. It can be halved a few times and is still a normal number, and so is its inverse.
constexpr float least_scale = 0x1p-120f;

/// Returns the smallest power of two 2^l, at least least_scale, with max·2^l ≥ magnitude. Returns 1 for a
/// magnitude of 0.
float covering_scale(float magnitude, int max);

/// The formats of which choose_weight_format takes one for weights of this largest magnitude.
std::vector<FixedPoint> weight_formats(float magnitude, int bits, WeightScale how);

/// What the optimizer has seen of weights as it wrote them.
struct SeenWeights {
  std::uint64_t version = 0;  ///< of the weights (Tensor::version) that were written; 0: none yet
  float max_magnitude = 0;
  std::vector<FixedPoint> formats;  ///< likely ones: weight_formats() of the weights before
  std::vector<double> errors;       ///< of these
};

/// Chooses the format of a weight tensor (signed, `bits`) from its current values. The weights are read only
/// for what is not among the things `seen` of them.
FixedPoint choose_weight_format(const Tensor& weights, int bits, WeightScale how,
                                const SeenWeights* seen = nullptr);

/// Returns the percentile set in the options, or else the default for that number of bits.
double calibration_percentile(int bits, const NumberFormat& options);

/// Chooses the format of an activation from its histogram. The scale is covering_scale of the percentile or
/// of the largest value, or the power of two with the smallest squared error.
FixedPoint choose_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                    const NumberFormat& options);

}  // namespace faq
