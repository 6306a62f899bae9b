// Re-estimates the running statistics of batch-norm outside training.
#pragma once

#include <functional>
#include <optional>

#include "nn/models.h"

namespace faq {

/// Replaces the running statistics by the mean of the statistics of several batches. The batches run through
/// the network as it is now (quantized or not, without dropout). Returns the number of batches.
/// `next_images`: u8 N,H,W,C, until it returns nothing. Without any batch nothing changes. If `next_images`
/// throws, the exception passes through, and the statistics of the batches so far stay.
///
/// Running averages lag behind when weights are quantized in one go (Mellempudi et al., arXiv 1701.08978,
/// section 3.2).
int reestimate_batch_norm(Model& model, const std::function<std::optional<Tensor>()>& next_images);

}  // namespace faq
