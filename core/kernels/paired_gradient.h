// The gradient of a convolution's weights, computed in bf16 as dot products over pairs of pixels.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Σ over images of x ⋆ dy, for CPUs that multiply pairs of bf16 and add them in f32 (AVX512_BF16). The
/// instruction needs the two pixels of a pair side by side, and bringing them there is slow when there are
/// few channels. This class pairs both operands once for a group of images, directly from integers, and then
/// reads them from the cache.
///
/// A sum is always added in the same order, whatever the number of threads.
class PairedGradient {
 public:
  /// True if this class should be used: the CPU has the instruction and no matrix unit (oneDNN uses that), dy
  /// is bf16, x is bf16 or integer, input and output channels are multiples of 16, there are few output
  /// channels, and the kernel is wider than one tap (one tap is a matrix product), without dilation and
  /// groups.
  static bool suits(const Shape& weights, const ConvGeometry& geometry, DType x, DType dy);

  /// Precondition: suits().
  PairedGradient(const Shape& weights, const ConvGeometry& geometry);
  PairedGradient(PairedGradient&&) = default;
  PairedGradient& operator=(PairedGradient&&) = default;

  /// Adds some images. x: u8, s8 (integers, exact in bf16) or bf16; dy: bf16, the gradient of the output for
  /// x.
  void add(const Tensor& x, const Tensor& dy);
  /// Adds the sums of another part of the batch.
  void add(const PairedGradient& part);
  /// Returns the sum as O,I,H,W, f32.
  Tensor sum() const;

 private:
  Shape weights_;
  ConvGeometry geometry_;
  Tensor sums_;  ///< O/16, H, I/8, W, 8, 16
};

}  // namespace faq::kernels
