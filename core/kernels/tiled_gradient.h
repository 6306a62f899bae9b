// The gradient of a convolution's weights, computed in bf16 by a CPU that multiplies matrices.
#pragma once

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_plan.h"
#include "core/tensor.h"

namespace faq::kernels {

/// Σ over images of x ⋆ dy, in the tiles of AMX. The instruction multiplies pairs of bf16, which must lie
/// side by side. As in QuadGradient it is images that do: then a shift of the filter is a shift of the
/// pointer, and never one within a pair. (oneDNN pairs pixels, and has to copy the input for every second
/// column of the filter.)
///
/// Sums are added in f32 in an order that depends on the parts that are added, not on threads.
class TiledGradient {
 public:
  /// True if this class should be used: the CPU has the tiles, dy is bf16, x is bf16 or integer, no groups of
  /// channels, and not mostly products of zeros. x: the shape of a part.
  static bool suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType x_dtype,
                    DType dy_dtype);

  /// Of how many images a part should be a multiple, if the gradient of the outputs has this dtype: the tiles
  /// that there are multiply as many at a time.
  static std::int64_t images_together(DType dy);

  /// `tiles`: the inner loops. Precondition: suits(), but for the tiles.
  TiledGradient(const Shape& weights, const ConvGeometry& geometry, const PairTiles& tiles = *pair_tiles());

  /// Adds some images. x: u8, s8 (integers, exact in bf16) or bf16; dy: bf16, the gradient of the output for
  /// x.
  void add(const Tensor& x, const Tensor& dy);
  /// Adds the sums of another part of the batch. Precondition: both have some, of the same weights.
  void add(const TiledGradient& part);
  /// Returns the sum as O,I,H,W, f32. Precondition: something was added.
  Tensor sum() const;

 private:
  void add_group(const Tensor& x, const Tensor& dy);

  ConvGeometry geometry_;
  PairTiles tiles_;
  QuadPlan plan_;
  Tensor sums_;  ///< tile after tile, outputs × vectors × 16; undefined: nothing was added
};

}  // namespace faq::kernels
