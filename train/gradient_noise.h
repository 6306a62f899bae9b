// How much the gradients of mini-batches disagree (FAQ, arXiv 1809.04191, section 5).
#pragma once

#include <functional>
#include <optional>
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

/// The network, the widths and the batch sizes to measure.
struct GradientNoiseStudy {
  ModelChoice model = {.model = ""};  ///< `model`: of plain weights; a checkpoint names its own
  DataChoice data = {};
  std::vector<int> batch_sizes = {32, 128, 512};
  int batches = 50;  ///< of every size, at least 2
  Engine engine = Engine::integer;
  std::vector<int> bits = {32, 8, 6, 5, 4, 3, 2};  ///< of weights and activations; 32: not quantized
};

struct GradientNoiseRow {
  int bits = 0;
  int batch_size = 0;
  GradientNoise noise;
};

/// Measures all widths at all batch sizes. Returns rows by width, then by batch size in ascending order. All
/// batch sizes of a width use the same quantized network, calibrated on batches of the largest size. A size
/// is left out, with a notice, if the training data do not hold two batches of it. `on_row` gets every row as
/// soon as it is measured, and the number of rows. Throws usage for numbers out of range; bad_data when no
/// size is left; and as open_network and open_data do.
std::vector<GradientNoiseRow> gradient_noise(
    const GradientNoiseStudy& study, RunListener& listener,
    const std::function<void(const GradientNoiseRow& row, std::size_t rows)>& on_row = {});

}  // namespace faq
