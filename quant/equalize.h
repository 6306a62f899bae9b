// Gives weights that have one scale per layer a range per channel.
#pragma once

#include <set>
#include <string>

#include "nn/models.h"

namespace faq {

/// Scales the output channels of every quantized convolution, so that the scale each channel would have by
/// itself becomes the layer's power of two. The channel's own scale is the best one or, with
/// WeightScale::max, the one that covers it. If the layer holds a scale, that scale is used. The batch-norm
/// after the convolution takes the factor back. The model must be quantized (quant/quantize.h). `except`:
/// names of layers that are left as they are.
///
/// In evaluation the network computes the same as before, up to f32 rounding. In training the batch
/// statistics compensate. Only the error of quantization changes. The factor of a weak channel (a quarter of
/// the median scale or less) is limited to four times the median channel's factor. Batch-norm has switched
/// such channels off, or they matter little.
///
/// Do not equalize a network that has been trained with integers of the same number of bits: its integers
/// would change, and it would lose what it has learned. Only the real-valued network stays the same.
///
/// This step is not in the FAQ paper, which leaves the layout of a layer's weights as pretraining left it;
/// docs/experiments/ingredients.md measures its effect. The idea of moving scales between layers is from
/// Nagel et al., arXiv 1906.04721, section 4.1.
void equalize_channels(Model& model, const std::set<std::string>& except = {});

}  // namespace faq
