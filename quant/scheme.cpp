#include "quant/scheme.h"

#include "core/error.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "core/ops.h"
#include "quant/dfp_scheme.h"
#include "quant/dorefa_scheme.h"
#include "quant/faq_scheme.h"
#include "quant/lsq_scheme.h"

namespace faq {
namespace {

struct Row {
  Scheme scheme;
  int max_weight_bits;
  Var (*argument)(const Var&);
  QuantizedWeights (*weights)(const Tensor&, int bits, const NumberFormat&);  ///< null: fixed_point_weights
  FixedPoint (*activation)(const Histogram&, int bits, bool is_signed, const NumberFormat&);
};

Var itself(const Var& weights) { return weights; }

QuantizedWeights fixed_point_weights(const Tensor& weights, int bits, const NumberFormat& options,
                                     const SeenWeights* seen) {
  return {kernels::quantize(weights, choose_weight_format(weights, bits, options.weight_scale, seen)), bits};
}

QuantizedWeights odd_weights(const Tensor& weights, int bits, const NumberFormat&) {
  return dorefa_weights(weights, bits);
}

// As a layer begins. QuantizedUnit has the scales it has learned.
QuantizedWeights starting_weights(const Tensor& weights, int bits, const NumberFormat& options) {
  return quantize_weights(weights, bits, starting_scales(weights, bits, options));
}

constexpr Row rows[] = {
    {Scheme::faq, 8, itself, nullptr, choose_activation_format},
    {Scheme::dfp, max_cluster_bits, itself, cluster_weights, choose_activation_format},
    {Scheme::dorefa, max_dorefa_bits, tanh, odd_weights, real_activation_format},
    {Scheme::lsq, 8, itself, starting_weights, real_activation_format},
};

const Row& row_of(Scheme scheme) {
  for (const Row& row : rows) {
    if (row.scheme == scheme) return row;
  }
  fail(ErrorKind::internal, "no quantization scheme");
}

}  // namespace

int max_weight_bits(Scheme scheme) { return row_of(scheme).max_weight_bits; }

Var rounded_argument(const Var& weights, int bits, const NumberFormat& options) {
  const Row& row = row_of(options.scheme);
  return bits <= row.max_weight_bits ? row.argument(weights) : weights;
}

QuantizedWeights quantize_weights(const Tensor& argument, int bits, const NumberFormat& options,
                                  float held_scale, const SeenWeights* seen) {
  if (held_scale > 0)
    return {kernels::quantize(argument, {.scale = held_scale, .bits = bits, .is_signed = true}), bits};
  if (chooses_fixed_point(bits, options)) return fixed_point_weights(argument, bits, options, seen);
  return row_of(options.scheme).weights(argument, bits, options);
}

bool chooses_fixed_point(int bits, const NumberFormat& options) {
  const Row& row = row_of(options.scheme);
  return !row.weights || bits > row.max_weight_bits;
}

QuantizedWeights quantize_weights(const Tensor& weights, int bits, const Tensor& scales) {
  QuantizedWeights result{kernels::quantize_rows(weights, scales, {.bits = bits, .is_signed = true}), bits};
  if (scales.numel() > 1) result.channel_scales = scales.clone();
  return result;
}

FixedPoint activation_format(const Histogram& histogram, int bits, bool is_signed,
                             const NumberFormat& options) {
  return row_of(options.scheme).activation(histogram, bits, is_signed, options);
}

}  // namespace faq
