// What the numbers of a quantized network are.
#pragma once

#include <string>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/ternary.h"
#include "core/ops.h"

namespace faq {

enum class Scheme {
  none,   ///< floating point
  faq,    ///< power-of-two scales, McKinstry et al., arXiv 1809.04191
  dfp,    ///< weights in clusters with a scale each, Mellempudi et al., arXiv 1701.08978
  dorefa  ///< weights through tanh, Zhou et al., arXiv 1606.06160; Zhuang et al., arXiv 1908.04680
};

/// How the scale of an activation is found from its histogram.
enum class Calibration { percentile, max, mse };

/// How the scale of a weight tensor is chosen, anew at every training step until it is held.
enum class WeightScale {
  mse,  ///< minimises ‖w − Q(w)‖²
  max   ///< the smallest that represents max|w| without clipping
};

/// Bits of the layers whose name matches `pattern` ('*' any run of characters, '?' any one): the weights, and
/// the activations the unit hands on.
struct LayerBits {
  std::string pattern;
  int weight_bits = 8;
  int act_bits = 8;
};

/// What gradients are computed in unless it is said: bf16 where the CPU multiplies it natively.
inline GradFormat default_grad_format() { return has_native_bf16() ? GradFormat::bf16 : GradFormat::f32; }

/// What quantize() (quant/quantize.h) obeys: what the integers are and how their scales are found. What is
/// done around it (calibrating, equalizing, phases) is a QuantRecipe's (train/quant_recipe.h).
struct NumberFormat {
  Scheme scheme = Scheme::none;
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;                 ///< weights of the first and last layer, and the input of the last
  std::vector<LayerBits> layer_bits = {};  ///< overrides, the last match wins
  Calibration calibration = Calibration::percentile;
  double calibration_percentile = 0;  ///< 0: 99.99 above 6 bits, 99.9 otherwise (FAQ, section 3)
  WeightScale weight_scale = WeightScale::mse;
  /// Of what units hand on; without it they compute in floating point with the numbers quantized weights
  /// stand for, in training and in evaluation (the first of two stages, Zhuang et al., arXiv 1908.04680,
  /// section 3.2).
  bool quantize_activations = true;
  std::int64_t cluster_size = 4;  ///< dfp: input channels per scale; 0: all
  kernels::TernaryScale ternary_scale = kernels::TernaryScale::rms;
  Engine engine = Engine::integer;
  GradFormat grad_format = default_grad_format();  ///< bf16 is for CPUs that have it
};

}  // namespace faq
