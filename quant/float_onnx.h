// A model in floating point as ONNX.
#pragma once

#include "nn/models.h"
#include "quant/deploy/onnx_model.h"

namespace faq {

/// What the model computes in eval mode, as torchvision's export has it: the input `input` is f32 N,C,H,W,
/// normalised with the mean and the standard deviation of the preprocessing (in the metadata); the output
/// `output` is f32 N,K; weights and statistics have their names in checkpoints; batch-norms are
/// BatchNormalization. `images`: the preprocessing; mean and standard deviation are the model's. Runs one
/// empty image through the model.
///
/// Throws usage, with its name, for a unit that is none of the library's, and for images that do not fit the
/// model.
OnnxModel float_onnx_model(Model& model, const Preprocessing& images);

}  // namespace faq
