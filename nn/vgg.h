// Networks of one chain of convolutions with fully connected layers after it: VGG with batch-norm (Simonyan
// and Zisserman, "Very deep convolutional networks", table 1) and AlexNet (Krizhevsky, "One weird trick for
// parallelizing convolutional neural networks"), in torchvision's variant.
#pragma once

#include <vector>

#include "nn/models.h"

namespace faq {

/// One convolution; `pool`: a max pooling follows it.
struct PlainConv {
  int channels;
  int kernel = 3;
  int stride = 1;
  int padding = 1;
  bool pool = false;
};

struct VggRow {
  const char* name;
  const char* source;
  std::vector<PlainConv> convs;
  bool batch_norm;
  int pool_kernel;        ///< stride 2
  int features;           ///< height and width that the fully connected layers expect
  bool dropout_in_front;  ///< dropout before a fully connected layer instead of after it (AlexNet)
};
const std::vector<VggRow>& vggs();

/// The layers are: `features.N`, numbered as in torchvision; adaptive average pooling; `classifier.N`: two
/// layers of 4096 with ReLU and dropout, and the classifier.
std::unique_ptr<Model> make_vgg(const VggRow& row, const ModelOptions& options);

}  // namespace faq
