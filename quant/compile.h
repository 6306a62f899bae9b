// Compiles a quantized model into the integer network that is deployed.
#pragma once

#include "nn/models.h"
#include "quant/deploy/integer_network.h"

namespace faq {

/// Returns the ops that the model's eval-mode forward executes. It runs one empty image of the size in
/// `images` and reads the ops off the tape. `images`: the preprocessing. compile() fills in the mean and the
/// standard deviation of the model; if `images` has them already, they must be the same. Throws internal for
/// a model that is not quantized, and usage for images that do not fit the model.
IntegerNetwork compile(Model& model, const Preprocessing& images);

/// The same for images that are not resized and classes that have no names.
IntegerNetwork compile(Model& model, std::int64_t height, std::int64_t width, std::int64_t channels);

}  // namespace faq
