// Recognizes networks by the names and shapes of their tensors, for messages about files of other networks.
#pragma once

#include <map>
#include <string>

#include "core/tensor.h"

namespace faq {

/// Returns what a network is that has these tensors: "resnet50", "timm's resnet18d: the stem has three
/// convolutions". Empty for what is not known.
std::string looks_like(const std::map<std::string, const Tensor*>& tensors);

}  // namespace faq
