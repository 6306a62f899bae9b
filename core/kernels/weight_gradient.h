// The gradient of a convolution's weights: by oneDNN, from pairs of pixels (paired_gradient.h), or in tiles
// (tiled_gradient.h).
#pragma once

#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Returns the gradient of the weights, f32, O,I,H,W. dy: f32 or bf16. x: the same dtype, or u8 or s8; their
/// integers are used without the scale.
Tensor conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                               const ConvGeometry& geometry);

/// The gradient of the weights, added up from parts of a batch. The parts of one share must be added one
/// after the other; different shares may be added by different threads at the same time. The shares are
/// summed in order. So the result depends on how the batch was divided, not on which thread was first.
class WeightGradient {
 public:
  WeightGradient(const Shape& weights, const ConvGeometry& geometry, int shares);
  ~WeightGradient();
  WeightGradient(const WeightGradient&) = delete;
  WeightGradient& operator=(const WeightGradient&) = delete;

  /// Adds some images and the gradients of their outputs. Dtypes as for conv2d_backward_weights().
  void add(const Tensor& x, const Tensor& dy, int share);
  /// Returns the sum as O,I,H,W, f32. Nothing may be added after it. Precondition: something was added.
  Tensor sum();

 private:
  struct Share;
  Shape weights_;
  ConvGeometry geometry_;
  std::vector<Share> shares_;
};

}  // namespace faq::kernels
