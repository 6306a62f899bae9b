// DenseNets of Huang et al., "Densely connected convolutional networks", table 1, in torchvision's variant.
#pragma once

#include <array>

#include "nn/models.h"

namespace faq {

struct DenseNetRow {
  const char* name;
  int growth;
  int stem_channels;
  std::array<int, 4> layers;  ///< per block
};
const std::vector<DenseNetRow>& densenets();

/// The layers are: a 7×7 convolution and pooling; blocks of layers, where each layer adds `growth` channels
/// to its input; between blocks, transitions that halve channels, height and width; `classifier`.
std::unique_ptr<Model> make_densenet(const DenseNetRow& row, const ModelOptions& options);

}  // namespace faq
