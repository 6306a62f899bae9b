// Per-channel ranges for weights that have one scale per layer.
#pragma once

#include <set>
#include <string>

#include "nn/models.h"

namespace faq {

/// Scales the output channels of every quantized convolution so that each one's own scale, the best one or,
/// with WeightScale::max, the one that covers it, becomes the layer's power of two (the one it holds, if it
/// does); the batch-norm behind it takes the factor back. In evaluation the network computes what it did (to
/// f32 rounding), in training batch statistics see to it; only what quantization loses changes. Channels a
/// quarter as strong as the median or weaker, which batch-norm has switched off or will not miss, are scaled
/// by no more than four times its factor. Not in the FAQ paper, which leaves the layout of a layer's weights
/// as pretraining did; docs/experiments/ingredients.md has what it is worth. The idea of moving scales
/// between layers is Nagel et al., arXiv 1906.04721, section 4.1. The model must be quantized
/// (quant/quantize.h).
///
/// It is the weights behind the integers that compute the same: a network that has learnt with integers of as
/// many bits gets others, and unlearns. `except`: layers of which that must not happen.
void equalize_channels(Model& model, const std::set<std::string>& except = {});

}  // namespace faq
