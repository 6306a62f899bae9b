// Szegedy et al., "Rethinking the Inception architecture for computer vision", table 1, as torchvision has
// it.
#pragma once

#include "nn/models.h"

namespace faq {

/// Inception-v3. The auxiliary classifier takes part in training only, and in floating point.
std::unique_ptr<Model> make_inception_v3(const ModelOptions& options);

}  // namespace faq
