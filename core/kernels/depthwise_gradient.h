// The gradient of the weights of a depthwise convolution.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Σ over images of x ⋆ dy where each channel has a filter of its own. There is one product for each value
/// that is read, so it is memory that limits it. This class reads both operands once, x as the integers it is
/// stored as. oneDNN has no fast kernel for filters larger than 3×3 (docs/performance.md, "What was tried").
///
/// The sums of an image's rows are added in f32, in one order whatever the number of threads.
class DepthwiseGradient {
 public:
  /// True if this class should be used: one output channel for each input channel, and a filter larger than
  /// 3×3, up to which oneDNN is faster.
  static bool suits(const Shape& weights, const ConvGeometry& geometry);

  /// Precondition: suits().
  DepthwiseGradient(const Shape& weights, const ConvGeometry& geometry);

  /// Adds some images. x: u8, s8 (without their scale), bf16 or f32. dy: bf16 or f32, the gradient of the
  /// output for x.
  void add(const Tensor& x, const Tensor& dy);
  /// Adds the sums of another part of the batch.
  void add(const DepthwiseGradient& part);
  /// Returns the sum as C,1,H,W, f32.
  Tensor sum() const;

 private:
  Shape weights_;
  ConvGeometry geometry_;
  Tensor sums_;  ///< H, W, C
};

}  // namespace faq::kernels
