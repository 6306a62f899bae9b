// The gradient of a convolution's weights from 8-bit gradients, in exact integers.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_plan.h"
#include "core/kernels/quad_tiles.h"
#include "core/kernels/rounded_gradient.h"
#include "core/kernels/tree_sum.h"

namespace faq::kernels {

/// Σ over images of x ⋆ dy. Products of four images are added at a time: with the bytes of four images side
/// by side, a shift of the filter is a shift of the pointer, and never one within a group of bytes.
///
/// The batch comes in groups of images, each with the scale of its gradient. In a group, the rows of the
/// outputs of four images count as one, and come one after the other. For as many rows as are sure to fit
/// into 32 bits (max_quad_products over 4·width), Σ dy·x is an exact integer. These integers are multiplied
/// by the scale and added in f32, in order; then the groups are added as TreeSum does it. So the bits do not
/// depend on the CPU or on threads.
class QuadGradient {
 public:
  /// True if the geometry is one that this class takes: no groups of channels, and rows that fit into 32
  /// bits.
  static bool suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

  /// `groups`: of images. `factors`: what the gradient is multiplied by, for each output channel; undefined:
  /// 1. `tiles`: the inner loops.
  QuadGradient(const Shape& weights, const ConvGeometry& geometry, std::int64_t groups, Tensor factors = {},
               const QuadTiles& tiles = quad_tiles());

  /// Adds the images of a group; each number once. x: u8 or s8, their integers; dy: the gradient of their
  /// outputs. Groups may be added by different threads at the same time. If their number is no multiple of
  /// four, images of zeros are added. Precondition: suits().
  void add(std::int64_t group, const Tensor& x, const RoundedGradient& dy);
  /// Returns the sum as O,I,H,W, f32. Precondition: every group was added.
  Tensor sum();

 private:
  // Writes the sums of a cell's tiles to their places in the gradient.
  void place(std::int64_t block, std::int64_t output_block, const float* sums, float* dw) const;

  Shape weights_;
  ConvGeometry geometry_;
  QuadPlan plan_;
  std::int64_t groups_;
  Tensor factors_;
  QuadTiles tiles_;
  /// Of a cell, for each weight of an output, in their order: where its sum is. Of whole blocks of channels,
  /// and of the last one.
  std::vector<std::int32_t> whole_, last_;
  TreeSum sums_;  ///< tile after tile: outputs × vectors × 16
  Tensor dw_;     ///< of a single group, which is placed cell by cell
};

}  // namespace faq::kernels
