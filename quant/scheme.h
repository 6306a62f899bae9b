// A scheme says how weights and activations become integers. Each scheme is a row of the table in scheme.cpp
// and a file of its own.
#pragma once

#include "core/var.h"
#include "quant/deploy/weights.h"
#include "quant/faq_scheme.h"
#include "quant/histogram.h"
#include "quant/number_format.h"

namespace faq {

/// The largest number of weight bits the scheme supports. A layer with more bits (--first-last-bits,
/// --layer-bits) uses the fixed-point weights of FAQ.
int max_weight_bits(Scheme scheme);

/// The real numbers that the scheme rounds, as a differentiable function of a layer's weights: tanh(w) for
/// DoReFa, w for the others. The gradient of the rounding itself is straight-through.
Var rounded_argument(const Var& weights, int bits, const NumberFormat& options);

/// Rounds the result of rounded_argument to integers. `held_scale` > 0: the result is fixed-point integers
/// with that scale. 0: the scheme chooses the scale. `seen`: see choose_weight_format.
QuantizedWeights quantize_weights(const Tensor& argument, int bits, const NumberFormat& options,
                                  float held_scale = 0, const SeenWeights* seen = nullptr);

/// True if the scheme rounds weights of so many bits as they are to fixed point, with a scale that it chooses
/// by choose_weight_format.
bool chooses_fixed_point(int bits, const NumberFormat& options);

/// Rounds weights to integers with these scales: one, or one per output channel.
QuantizedWeights quantize_weights(const Tensor& weights, int bits, const Tensor& scales);

/// Chooses the format of an activation from its histogram. With lsq it is the one that learning starts from.
FixedPoint activation_format(const Histogram& histogram, int bits, bool is_signed,
                             const NumberFormat& options);

}  // namespace faq
