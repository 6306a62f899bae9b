// The block of the networks for small machines: Sandler et al., "MobileNetV2: Inverted residuals and linear
// bottlenecks", section 3.3.
#pragma once

#include <memory>

#include "nn/units.h"

namespace faq {

struct InvertedResidualOptions {
  int in_channels = 0;
  int out_channels = 0;
  int kernel = 3;
  int stride = 1;
  int expansion = 1;          ///< channels of the depthwise convolution, over those of the input
  bool same_padding = false;  ///< ConvGeometry::with_same_padding; else half of the kernel
  float eps = 1e-5f;
};

/// A 1×1 convolution that expands the channels (if there is an expansion), a depthwise convolution, and a 1×1
/// convolution without activation. It adds the input where that has the same shape, so the sum is signed.
/// A network lists the convolutions under its own names.
class InvertedResidual : public Module {
 public:
  explicit InvertedResidual(const InvertedResidualOptions& o)
      : depthwise_(o.in_channels * o.expansion, o.in_channels * o.expansion, o.kernel,
                   {.stride = o.stride,
                    .padding = o.kernel / 2,
                    .same_padding = o.same_padding,
                    .groups = o.in_channels * o.expansion,
                    .activation = Activation::relu6,
                    .eps = o.eps}),
        project_(o.in_channels * o.expansion, o.out_channels, 1,
                 {.activation = Activation::identity, .eps = o.eps}),
        adds_input_(o.stride == 1 && o.in_channels == o.out_channels) {
    if (o.expansion > 1)
      expand_ =
          std::make_unique<ConvNormAct>(o.in_channels, o.in_channels * o.expansion, 1,
                                        ConvNormActOptions{.activation = Activation::relu6, .eps = o.eps});
  }

  Var forward(const Pass& pass, const Var& x) {
    const Var y = depthwise_(pass, expand_ ? (*expand_)(pass, x) : x);
    return adds_input_ ? project_(pass, y, x) : project_(pass, y);
  }

 protected:
  std::unique_ptr<ConvNormAct> expand_;  ///< null: none
  ConvNormAct depthwise_, project_;

 private:
  bool adds_input_;
};

}  // namespace faq
