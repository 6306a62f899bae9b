// The CIFAR ResNets of He et al., "Deep residual learning for image recognition", section 4.2.
#pragma once

#include "nn/models.h"

namespace faq {

struct CifarResNetRow {
  const char* name;
  int blocks;  ///< per stage; depth = 6·blocks + 2
};
const std::vector<CifarResNetRow>& cifar_resnets();

/// The layers are: a 3×3 convolution; stages of 16, 32, 64 channels with shortcut A; global average pooling;
/// classifier `fc`.
std::unique_ptr<Model> make_cifar_resnet(const CifarResNetRow& row, const ModelOptions& options);

}  // namespace faq
