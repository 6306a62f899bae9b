// The gradient of a convolution's weights, by oneDNN or from pairs of pixels (paired_gradient.h).
#pragma once

#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Gradient of the weights, f32, O,I,H,W. dy: f32 or bf16; x: the same, or u8 or s8, whose bare integers
/// count.
Tensor conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                               const ConvGeometry& geometry);

/// The gradient of the weights added up from parts of a batch. The parts of one share are added in turn,
/// different shares by any threads at the same time, and summed in their order: the result depends on how the
/// batch was divided, not on who came first.
class WeightGradient {
 public:
  WeightGradient(const Shape& weights, const ConvGeometry& geometry, int shares);
  ~WeightGradient();
  WeightGradient(const WeightGradient&) = delete;
  WeightGradient& operator=(const WeightGradient&) = delete;

  /// Some images and the gradients of their outputs: dtypes as for conv2d_backward_weights().
  void add(const Tensor& x, const Tensor& dy, int share);
  /// O,I,H,W, f32; nothing may be added any more. Precondition: something was.
  Tensor sum();

 private:
  struct Share;
  Shape weights_;
  ConvGeometry geometry_;
  std::vector<Share> shares_;
};

}  // namespace faq::kernels
