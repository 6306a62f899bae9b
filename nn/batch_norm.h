// Batch-norm's statistics, apart from training.
#pragma once

#include <functional>
#include <optional>

#include "nn/models.h"

namespace faq {

/// Replaces the running statistics by the means of those of some batches, taken through the network as it is
/// now (quantized or not, without dropout), and returns the number of batches. `next_images`: u8 N,H,W,C,
/// until it returns nothing; without any, nothing changes. What it throws is passed on, with the statistics
/// of the batches until then. What running averages lag behind: weights that were quantized at a stroke
/// (Mellempudi et al., arXiv 1701.08978, section 3.2).
int reestimate_batch_norm(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
