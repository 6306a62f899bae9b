// The number formats of a quantized network.
#pragma once

#include <string>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/ternary.h"
#include "core/ops.h"

namespace faq {

enum class Scheme {
  none,    ///< floating point
  faq,     ///< power-of-two scales, McKinstry et al., arXiv 1809.04191
  dfp,     ///< weights in clusters with a scale each, Mellempudi et al., arXiv 1701.08978
  dorefa,  ///< weights through tanh, Zhou et al., arXiv 1606.06160; Zhuang et al., arXiv 1908.04680
  lsq      ///< learned scales, Esser, McKinstry et al., arXiv 1902.08153
};

/// How the scale of an activation is found from its histogram.
enum class Calibration { percentile, max, mse };

/// How the scale of a weight tensor is chosen. It is chosen again at every training step until it is held.
/// Learned scales start with it.
enum class WeightScale {
  mse,  ///< minimises ‖w − Q(w)‖²
  max,  ///< the smallest scale that represents max|w| without clipping
  mean  ///< lsq: from the mean of |w|
};

/// What has one learned scale: all weights of a layer, or those of each output channel.
enum class ScaleSharing { layer, channel };

/// Sets the bits of the layers whose name matches `pattern` ('*' any run of characters, '?' any one
/// character): the bits of the weights, and of the unit's output.
struct LayerBits {
  std::string pattern;
  int weight_bits = 8;
  int act_bits = 8;
};

/// Throws usage, with the field, if weights or activations cannot have so many bits: 2 to 8.
void check_bits(const char* field, int bits);

/// What follows the bits of activations in a text: " (8 on residual connections)"; nothing for 0.
std::string residual_note(int residual_bits);

/// The format of gradients of a NumberFormat that names none: bf16 where the CPU multiplies it natively, else
/// f32. (That of a QuantRecipe, train/quant_recipe.h, is s8, for which a pass must name its samples.)
inline GradFormat default_grad_format() { return has_native_bf16() ? GradFormat::bf16 : GradFormat::f32; }

/// The settings of quantize() (quant/quantize.h): which integers, and how their scales are found. The steps
/// around it (calibration, equalization, phases) are set in QuantRecipe (train/quant_recipe.h).
struct NumberFormat {
  Scheme scheme = Scheme::none;
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;  ///< of the weights of the first and last layer, and of the last layer's input
  int residual_bits = 0;    ///< of residual sums and of what they add; 0: as act_bits
  std::vector<LayerBits> layer_bits = {};  ///< overrides; the last match wins
  Calibration calibration = Calibration::percentile;
  double calibration_percentile = 0;  ///< 0: 99.99 above 6 bits, 99.9 otherwise (FAQ, section 3)
  WeightScale weight_scale = WeightScale::mse;
  /// lsq. Scales of channels cost nothing where a multiplier per channel follows, so a classifier (Linear)
  /// has one scale in any case.
  ScaleSharing scale_sharing = ScaleSharing::layer;
  /// Whether the outputs of units are quantized. If false, units compute in floating point, in training and
  /// in evaluation, with the real numbers that the quantized weights stand for. This is the first of two
  /// stages (Zhuang et al., arXiv 1908.04680, section 3.2).
  bool quantize_activations = true;
  std::int64_t cluster_size = 4;  ///< dfp: input channels per scale; 0: all
  kernels::TernaryScale ternary_scale = kernels::TernaryScale::rms;
  Engine engine = Engine::integer;
  GradFormat grad_format = default_grad_format();  ///< bf16 needs a CPU that has it; s8 runs on any
};

}  // namespace faq
