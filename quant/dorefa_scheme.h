// DoReFa's quantizers, as Zhuang et al. use them (arXiv 1908.04680, section 3.1).
#pragma once

#include "quant/deploy/weights.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// ŵ = 2·Q_k(t/(2·M) + 1/2) − 1 with t = tanh(w), M = max|t| and Q_k(x) = round(x·(2^k − 1))/(2^k − 1): odd
/// integers from −(2^k − 1) to 2^k − 1 with the scale M/(2^k − 1). The paper's scale lacks M; kept, it leaves
/// the size of a pretrained layer's output what it was (behind a batch-norm it makes no other difference).
/// `tanh_weights`: t. At most max_dorefa_bits: 8-bit odd integers, up to 255, are no s8.
QuantizedWeights dorefa_weights(const Tensor& tanh_weights, int bits);
inline constexpr int max_dorefa_bits = 7;

/// r·Q_k(clip(x/r, 0, 1)), a scale of r/(2^k − 1) that is no power of two. r is calibrated like FAQ's range
/// (percentile, maximum, or least squared error); the paper's networks are trained with r = 1 from the start.
FixedPoint dorefa_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                    const NumberFormat& options);

}  // namespace faq
