// The quantizers of DoReFa, as Zhuang et al. use them (arXiv 1908.04680, section 3.1).
#pragma once

#include "quant/deploy/weights.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// Quantizes weights: ŵ = 2·Q_k(t/(2·M) + 1/2) − 1 with t = tanh(w), M = max|t| and
/// Q_k(x) = round(x·(2^k − 1))/(2^k − 1). `tanh_weights`: t.
/// The result is odd integers from −(2^k − 1) to 2^k − 1 with the scale M/(2^k − 1). Throws for fewer than 2
/// or more than max_dorefa_bits bits: with 8 bits the odd integers reach 255, which is not an s8.
///
/// The paper's scale has no factor M. We keep the factor, so the output of a pretrained layer keeps its
/// magnitude. Before a batch-norm it makes no other difference.
QuantizedWeights dorefa_weights(const Tensor& tanh_weights, int bits);
inline constexpr int max_dorefa_bits = 7;

/// The format of activations r·Q_k(clip(x/r, 0, 1)). Its scale r/(2^k − 1) is any real number. r is
/// calibrated like FAQ's range (percentile, maximum, or least squared error). The paper's networks are
/// trained with r = 1 from the start. LSQ's activations start with the same format.
FixedPoint real_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                  const NumberFormat& options);

}  // namespace faq
