// The ImageNet ResNets of He et al., "Deep residual learning for image recognition", table 1, in
// torchvision's variant (a bottleneck has its stride in the 3×3 convolution), and the ResNeXts of Xie et al.,
// "Aggregated residual transformations for deep neural networks", table 1.
#pragma once

#include <array>

#include "nn/models.h"

namespace faq {

struct ResNetRow {
  const char* name;
  bool bottleneck;
  std::array<int, 4> blocks;  ///< per stage
  const char* source = "He et al. 2016, table 1";
  int groups = 1;            ///< of the 3×3 convolution of a bottleneck
  int width_per_group = 64;  ///< its channels in the first stage, over `groups`
};
const std::vector<ResNetRow>& resnets();

/// The layers are: a 7×7 convolution and pooling; stages of 64, 128, 256, 512 channels (four times as many
/// after a bottleneck), with projections where the shape changes; global average pooling; classifier `fc`.
std::unique_ptr<Model> make_resnet(const ResNetRow& row, const ModelOptions& options);

}  // namespace faq
