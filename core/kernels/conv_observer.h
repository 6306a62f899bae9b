// Reports each convolution that is executed, for traces.
#pragma once

#include <functional>

#include "core/dtype.h"
#include "core/kernels/conv_geometry.h"

namespace faq::kernels {

enum class ConvPass { forward, backward_data, backward_weights };

/// A convolution that is executed. The shapes and dtypes are those of the tensors in the places of input,
/// weights and output; these are values or gradients, depending on the pass.
struct ConvCall {
  ConvPass pass;
  Shape x, weights, y;
  ConvGeometry geometry;
  DType x_dtype, weight_dtype, y_dtype;
};

/// Reports a convolution to the observer, if there is one. Every function that executes a convolution calls
/// this.
void report(const ConvCall& call);

/// Sets the observer that report() calls, in whatever thread runs the convolution. An empty function removes
/// it. Precondition: no convolution is running, and none is set when a new one is set.
void observe_convolutions(std::function<void(const ConvCall&)> observer);

}  // namespace faq::kernels
