// How much the gradients of mini-batches disagree (FAQ, arXiv 1809.04191, section 5).
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "data/loader.h"
#include "nn/models.h"
#include "train/options.h"
#include "train/run_listener.h"

namespace faq {

struct GradientNoise {
  int batches = 0;
  /// The mean over the mini-batches of the cosine between a batch's gradient g and the mean of all gradients,
  /// ḡ. As g is a part of ḡ, it is 1/√batches for gradients that have nothing in common.
  double cosine = 0;
  double mean_norm = 0;  ///< ‖ḡ‖
  double noise = 0;      ///< √(mean of ‖g − ḡ‖²)
};

/// Measures the gradients of the cross-entropy with respect to all parameters, in training mode. The weights
/// stay as they are. `batches` is called twice and must return the same batches: one pass is for the mean and
/// one for the angles, so memory does not grow with the number of batches. Throws bad_data when there are
/// none.
GradientNoise gradient_noise(Model& model,
                             const std::function<std::function<std::optional<Batch>()>()>& batches);

/// How far the gradient of some parameter is from the one that is computed in f32, for the same weights and
/// batches.
struct GradientAgreement {
  std::string parameter;  ///< "all": of all of them as one vector
  double cosine = 0;      ///< to the gradient in f32: the mean over the batches
  double noise = 0;       ///< √(mean of ‖g − g_f32‖² / mean of ‖g_f32‖²)
};

/// Compares the gradients of two models of the same weights, the second of which computes them in f32.
/// Returns a row for each tensor of two dimensions or more, and then one for all parameters. `batches`: as in
/// gradient_noise(); called once. Throws bad_data when there are none.
std::vector<GradientAgreement> gradient_agreement(
    Model& model, Model& in_f32, const std::function<std::function<std::optional<Batch>()>()>& batches);

/// The network, the widths, the formats and the batch sizes to measure.
struct GradientNoiseStudy {
  ModelChoice model = {.model = ""};  ///< `model`: of plain weights; a checkpoint names its own
  DataChoice data = {};
  std::vector<int> batch_sizes = {32, 128, 512};
  int batches = 50;  ///< of every size, at least 2
  Engine engine = Engine::integer;
  std::vector<int> bits = {32, 8, 6, 5, 4, 3, 2};  ///< of weights and activations; 32: not quantized
  /// Formats that gradients are computed in; empty: default_grad_format(). Where nothing is quantized it is
  /// f32, once.
  std::vector<GradFormat> grad_formats = {};
};

struct GradientNoiseRow {
  int bits = 0;
  GradFormat grad_format;
  int batch_size = 0;
  GradientNoise noise;
  std::vector<GradientAgreement> agreement = {};  ///< with f32, if formats were asked for; none of f32 itself
};

/// Measures all widths in all formats at all batch sizes. Returns rows by width, by format in the order they
/// came, then by batch size in ascending order. All rows of a width use the same quantized network,
/// calibrated on batches of the largest size. A size is left out, with a notice, if the training data do not
/// hold two batches of it. `on_row` gets every row as soon as it is measured, and the number of rows. Throws
/// usage for numbers out of range; bad_data when no size is left; and as open_network and open_data do.
std::vector<GradientNoiseRow> gradient_noise(
    const GradientNoiseStudy& study, RunListener& listener,
    const std::function<void(const GradientNoiseRow& row, std::size_t rows)>& on_row = {});

}  // namespace faq
