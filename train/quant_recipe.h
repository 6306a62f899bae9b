// The recipe of a quantized run: the number formats, and the steps around them: calibration, equalization,
// re-estimated statistics, held scales, phases.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "quant/number_format.h"

namespace faq {

/// What is scaled before quantization to use the range of its scale (quant/equalize.h).
enum class Equalize { none, channels };

/// Bits of weights and of activations.
struct Widths {
  int weights = 8;
  int activations = 8;
  bool operator==(const Widths&) const = default;
};

/// How a run quantizes: the number formats and the steps around them. number_formats() computes the phases
/// from it. The fields are as in NumberFormat, which takes them over.
struct QuantRecipe {
  Scheme scheme = Scheme::none;
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;
  int residual_bits = 0;
  std::vector<LayerBits> layer_bits = {};
  Calibration calibration = Calibration::percentile;
  double calibration_percentile = 0;
  int calibration_batches = 5;
  WeightScale weight_scale = WeightScale::mse;
  ScaleSharing scale_sharing = ScaleSharing::layer;
  /// The share of a phase during which the scales of fixed-point weights follow the weights. Then the scales
  /// are held. 1: they always follow.
  double hold_weight_scales = 0.75;
  std::optional<Equalize> equalize = {};  ///< not set: channels where a layer has one scale (faq; lsq)
  std::int64_t cluster_size = 4;          ///< 0: all
  kernels::TernaryScale ternary_scale = kernels::TernaryScale::rms;
  int batch_norm_batches = -1;  ///< -1: as many as calibration_batches for dfp, 0 for the other schemes
  Engine engine = Engine::integer;
  std::optional<GradFormat> grad_format = {};  ///< not set: s8; f32 with Scheme::none
  /// What layers that train in floating point multiply, and teachers (Pass::float_dtype): f32 or bf16.
  DType float_dtype = DType::f32;

  // Training methods (Zhuang et al., arXiv 1908.04680).
  bool weights_first = false;              ///< two stages: first the weights alone, then the activations too
  std::vector<Widths> bits_schedule = {};  ///< widths to train at, one after the other; empty: one width
  double stochastic_precision = 1;         ///< probability at the start that a unit is quantized; 1: always
  double stochastic_tail = 0.2;            ///< share at the end of a phase in which everything is quantized
};

/// Returns the number format of every phase; the last one is deployed. Throws usage for values out of range
/// and for combinations that make no sense.
std::vector<NumberFormat> number_formats(const QuantRecipe& recipe);
/// Throws usage for what this CPU cannot train: bf16, where it is not native. What has been trained is
/// evaluated and exported on any CPU.
void check_trainable_here(const QuantRecipe& recipe);
/// Returns the format of the last phase.
NumberFormat deployed_format(const QuantRecipe& recipe);

/// The values of fields that the recipe may leave to the scheme.
Equalize equalize_of(const QuantRecipe& recipe);
int batch_norm_batches_of(const QuantRecipe& recipe);

}  // namespace faq
