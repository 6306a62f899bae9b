// From a quantized model to the integer network that is deployed.
#pragma once

#include "nn/models.h"
#include "quant/deploy/integer_network.h"

namespace faq {

/// The ops that the eval-mode forward of the model executes, read off the tape of one image of that size.
/// `images`: all that the model does not know of itself: its mean and standard deviation are filled in, and
/// those of `images`, if any, must be the same. Throws internal for a model that is not quantized,
/// usage for images that do not fit it.
IntegerNetwork compile(Model& model, const Preprocessing& images);

/// The same for images that come as they are: not resized, classes without names.
IntegerNetwork compile(Model& model, std::int64_t height, std::int64_t width, std::int64_t channels);

}  // namespace faq
