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

/// At which widths and batch sizes it is measured, on which network.
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

/// Rows by width, then by batch size in ascending order. Every batch size of a width meets the same quantized
/// network, calibrated on batches of the largest. Sizes of which the training data do not hold two batches
/// are left out, with a notice. `on_row`, if there is one, gets every row as soon as it is known, and how
/// many there will be. Throws usage and bad_data as open_network and open_data do, and bad_data when no size
/// is left.
std::vector<GradientNoiseRow> gradient_noise(
    const GradientNoiseStudy& study, RunListener& listener,
    const std::function<void(const GradientNoiseRow& row, std::size_t rows)>& on_row = {});

}  // namespace faq
