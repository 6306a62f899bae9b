// The gradient of a convolution's weights from 8-bit gradients, in exact integers.
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_plan.h"
#include "core/kernels/quad_tiles.h"
#include "core/kernels/rounded_gradient.h"
#include "core/kernels/tile_places.h"
#include "core/kernels/tree_sum.h"

namespace faq::kernels {

class QuadGroup;

/// Σ over images of x ⋆ dy. Products of four images are added at a time: with the bytes of four images side
/// by side, a shift of the filter is a shift of the pointer, and never one within a group of bytes.
///
/// The batch comes in groups of images, each with the scale of its gradient. In a group, the rows of the
/// outputs of four images count as one, and come one after the other. For as many rows as are sure to fit
/// into 32 bits (max_quad_products over 4·width), Σ dy·x is an exact integer. These integers are multiplied
/// by the scale and added in f32, in order; then the groups are added as TreeSum does it. So the bits do not
/// depend on the CPU or on threads.
///
/// Where images are large, a group's sums are computed as it is added, while its images are in the cache.
/// Where weights are large, groups wait for sum(): then all of them are added to a tile's sums while these
/// are in the cache, and the gradient is written once. Both make the same bits.
class QuadGradient {
 public:
  /// True if the geometry is one that this class takes: no groups of channels, and rows that fit into 32
  /// bits.
  static bool suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

  /// The inner loops that are fastest for such groups of images on this CPU.
  static const QuadTiles& tiles_for(const Shape& x, const Shape& weights, const ConvGeometry& geometry,
                                    std::int64_t groups);

  /// x: the shape of the whole batch. `groups`: of images. `factors`: what the gradient is multiplied by, for
  /// each output channel; undefined: 1. `tiles`: the inner loops. Precondition: suits().
  QuadGradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry, std::int64_t groups,
               Tensor factors, const QuadTiles& tiles);
  QuadGradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry, std::int64_t groups,
               Tensor factors = {})
      : QuadGradient(x, weights, geometry, groups, std::move(factors),
                     tiles_for(x, weights, geometry, groups)) {}
  ~QuadGradient();
  QuadGradient(const QuadGradient&) = delete;
  QuadGradient& operator=(const QuadGradient&) = delete;

  /// Adds the images of a group; each number once. x: u8 or s8, their integers; dy: the gradient of their
  /// outputs. Groups may be added by different threads at the same time. If their number is no multiple of
  /// four, images of zeros are added.
  void add(std::int64_t group, const Tensor& x, const RoundedGradient& dy);
  /// Returns the sum as O,I,H,W, f32. Precondition: every group was added.
  Tensor sum();

 private:
  struct Scratch;
  // Computes the sums of a node of the tree of groups (TreeSum), of `count` tiles.
  void compute_node(int level, std::int64_t number, const QuadPlan::Tile& begin, std::int64_t count,
                    float* out, Scratch& scratch) const;
  // Computes the gradient from groups that have waited.
  void place_waiting(float* dw) const;

  Shape weights_;
  ConvGeometry geometry_;
  QuadPlan plan_;
  QuadTiles tiles_;
  TilePlaces places_;
  std::vector<std::unique_ptr<QuadGroup>> waiting_;  ///< groups that wait for sum(); empty if they do not
  TreeSum sums_;  ///< of those that do not: tile after tile, outputs × vectors × 16
};

}  // namespace faq::kernels
