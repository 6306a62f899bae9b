// Szegedy et al., "Rethinking the Inception architecture for computer vision", table 1, in torchvision's
// variant.
#pragma once

#include "nn/models.h"

namespace faq {

/// Inception-v3. The auxiliary classifier runs in training only, and in floating point.
std::unique_ptr<Model> make_inception_v3(const ModelOptions& options);

}  // namespace faq
