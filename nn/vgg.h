// The networks of convolutions one after the other, with fully connected layers behind them: VGG with
// batch-norm (Simonyan and Zisserman, "Very deep convolutional networks", table 1) and AlexNet (Krizhevsky,
// "One weird trick for parallelizing convolutional neural networks"), as torchvision has them.
#pragma once

#include <vector>

#include "nn/models.h"

namespace faq {

/// One convolution, and whether a maximum pooling follows it.
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
  int features;           ///< height and width the fully connected layers are made for
  bool dropout_in_front;  ///< of a fully connected layer, instead of behind it (AlexNet)
};
const std::vector<VggRow>& vggs();

/// `features.N` as torchvision numbers them, adaptive average pooling, `classifier.N`: two layers of 4096
/// with ReLU and dropout, and the classifier.
std::unique_ptr<Model> make_vgg(const VggRow& row, const ModelOptions& options);

}  // namespace faq
