// EfficientNet-Lite: the EfficientNets of Tan and Le, "EfficientNet: Rethinking model scaling for
// convolutional neural networks", table 1, without squeeze-and-excitation and with ReLU6, by their authors
// (github.com/tensorflow/tpu, models/official/efficientnet/lite). The names are timm's. Padding is "SAME", as
// in the published weights: timm calls that tf_efficientnet_lite0.
#pragma once

#include "nn/models.h"

namespace faq {

struct EfficientNetRow {
  const char* name;
  int input_size;
  double width;  ///< factor of the channels of stages
  double depth;  ///< factor of their blocks, but for those of the first and the last stage
  float dropout;
};
const std::vector<EfficientNetRow>& efficientnets();

std::unique_ptr<Model> make_efficientnet(const EfficientNetRow& row, const ModelOptions& options);

}  // namespace faq
