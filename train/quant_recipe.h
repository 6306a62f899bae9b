// What is done around quantizing: calibrating, equalizing, statistics taken anew, held scales, phases.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "quant/number_format.h"

namespace faq {

/// What is scaled to use the range of its scale before anything is quantized (quant/equalize.h).
enum class Equalize { none, channels };

/// Bits of weights and of activations.
struct Widths {
  int weights = 8;
  int activations = 8;
  bool operator==(const Widths&) const = default;
};

/// How a run quantizes: the numbers themselves and what is done around them. The phases that follow from it
/// are number_formats(); the fields are as in NumberFormat, which they become.
struct QuantRecipe {
  Scheme scheme = Scheme::none;
  int weight_bits = 8;
  int act_bits = 8;
  int first_last_bits = 8;
  std::vector<LayerBits> layer_bits = {};
  Calibration calibration = Calibration::percentile;
  double calibration_percentile = 0;
  int calibration_batches = 5;
  WeightScale weight_scale = WeightScale::mse;
  /// Scales of fixed-point weights follow the weights until this share of a phase is over, then stay; 1: they
  /// always follow.
  double hold_weight_scales = 0.75;
  std::optional<Equalize> equalize = {};  ///< none: channels for faq, nothing for the others
  std::int64_t cluster_size = 4;          ///< 0: all
  kernels::TernaryScale ternary_scale = kernels::TernaryScale::rms;
  int batch_norm_batches = -1;  ///< -1: as many as calibration takes for dfp, none for the others
  Engine engine = Engine::integer;
  std::optional<GradFormat> grad_format =
      {};  ///< none: bf16 where the CPU has it natively, f32 with Scheme::none

  // Ways to get there (Zhuang et al., arXiv 1908.04680).
  bool weights_first = false;              ///< two stages: the weights alone, then the activations, too
  std::vector<Widths> bits_schedule = {};  ///< widths to train at one after the other; empty: one width
  double stochastic_precision = 1;         ///< the probability of being quantized it begins with; 1: always
  double stochastic_tail = 0.2;            ///< share of a phase at its end in which everything is quantized
};

/// The number format of every phase, the deployed one last. Throws usage for values out of range, for
/// combinations that make no sense, and for what this CPU cannot do.
std::vector<NumberFormat> number_formats(const QuantRecipe& recipe);
/// Of the last phase.
NumberFormat deployed_format(const QuantRecipe& recipe);

/// What the recipe leaves to the scheme.
Equalize equalize_of(const QuantRecipe& recipe);
int batch_norm_batches_of(const QuantRecipe& recipe);

}  // namespace faq
