// How much the gradients of mini-batches disagree (FAQ, arXiv 1809.04191, section 5).
#pragma once

#include <functional>
#include <optional>

#include "data/loader.h"
#include "nn/models.h"

namespace faq {

struct GradientNoise {
  int batches = 0;
  /// Mean over the mini-batches of the cosine between their gradient g and the mean of all, ḡ, of which it
  /// is a part: 1/√batches when they have nothing in common.
  double cosine = 0;
  double mean_norm = 0;  ///< ‖ḡ‖
  double noise = 0;      ///< √(mean of ‖g − ḡ‖²)
};

/// Of the gradients of the cross-entropy with respect to all parameters, the weights staying as they are, in
/// training mode. `batches` is asked twice for the same ones: a pass for the mean
/// and one for the angles, so that memory does not grow with their number. Throws bad_data when there are
/// none.
GradientNoise gradient_noise(Model& model,
                             const std::function<std::function<std::optional<Batch>()>()>& batches);

}  // namespace faq
