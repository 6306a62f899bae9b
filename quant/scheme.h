// What a scheme is: how weights and activations become integers. A scheme is a row of the table in scheme.cpp
// and a file.
#pragma once

#include "core/var.h"
#include "quant/deploy/weights.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// The widest weights a scheme has; a layer told to have wider ones (--first-last-bits, --layer-bits) has
/// FAQ's.
int max_weight_bits(Scheme scheme);

/// The numbers the scheme rounds, as a differentiable function of a layer's weights: DoReFa's tanh(w), w
/// itself for the others. The rounding's own gradient passes straight through.
Var rounded_argument(const Var& weights, int bits, const NumberFormat& options);

/// Of what rounded_argument gives. With a scale that is held the integers are fixed-point ones of that scale;
/// 0: the scheme chooses.
QuantizedWeights quantize_weights(const Tensor& argument, int bits, const NumberFormat& options,
                                  float held_scale = 0);

/// Format of an activation from its histogram.
FixedPoint activation_format(const Histogram& histogram, int bits, bool is_signed,
                             const NumberFormat& options);

}  // namespace faq
