// What is told of each convolution that is executed.
#pragma once

#include <functional>

#include "core/dtype.h"
#include "core/kernels/conv_geometry.h"

namespace faq::kernels {

enum class ConvPass { forward, backward_data, backward_weights };

/// A convolution as it is executed. Shapes and dtypes are those of what stands in the places of input,
/// weights and output: values or their gradients.
struct ConvCall {
  ConvPass pass;
  Shape x, weights, y;
  ConvGeometry geometry;
  DType x_dtype, weight_dtype, y_dtype;
};

/// Every function that executes a convolution calls this.
void record(const ConvCall& call);

/// From now on record() calls `observer`, in whatever thread; an empty one ends that. Precondition: nothing
/// is being executed, and there is no observer when one is set.
void observe_convolutions(std::function<void(const ConvCall&)> observer);

}  // namespace faq::kernels
