// MobileNetV2 of Sandler et al., "MobileNetV2: Inverted residuals and linear bottlenecks", table 2, with
// torchvision's names.
#pragma once

#include "nn/models.h"

namespace faq {

std::unique_ptr<Model> make_mobilenet_v2(const ModelOptions& options);

}  // namespace faq
