// The gradient of a convolution's weights by dot products over pairs of pixels, in bf16.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Σ over images of x ⋆ dy, for CPUs that multiply pairs of bf16 and add them in f32 (AVX512_BF16). Pixels
/// must be brought next to each other for that, which takes long where there are few channels. Here both
/// operands are paired once for a group of images, straight from integers, and read from the cache.
///
/// A sum has one order, whatever the number of threads.
class PairedGradient {
 public:
  /// Whether that is the way here: the CPU has the instruction (and no matrix unit, which oneDNN uses), the
  /// operands are bf16 or integers, and the layer has multiples of 16 channels, few of them at its output,
  /// and a kernel wider than one tap (one is a matrix product), all of them neighbours, in one group.
  static bool suits(const Shape& weights, const ConvGeometry& geometry, DType x, DType dy);

  /// Precondition: suits().
  PairedGradient(const Shape& weights, const ConvGeometry& geometry);
  PairedGradient(PairedGradient&&) = default;
  PairedGradient& operator=(PairedGradient&&) = default;

  /// x: u8, s8 (integers, exact in bf16) or bf16; dy: bf16, of x's convolution.
  void add(const Tensor& x, const Tensor& dy);
  /// The sums of another part of the batch.
  void add(const PairedGradient& part);
  /// O,I,H,W, f32.
  Tensor sum() const;

 private:
  Shape weights_;
  ConvGeometry geometry_;
  Tensor sums_;  ///< O/16, H, I/8, W, 8, 16
};

}  // namespace faq::kernels
