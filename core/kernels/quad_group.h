// The part that a group of images has in a QuadGradient. Included by core/kernels/*.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.h"
#include "core/kernels/quads.h"
#include "core/kernels/rounded_gradient.h"

namespace faq::kernels {

/// A group of images and the gradient of their outputs, interleaved in fours, and the sums of their products,
/// tile by tile.
class QuadGroup {
 public:
  /// `plan` and `tiles` must live as long. x: u8 or s8.
  QuadGroup(const Tensor& x, const RoundedGradient& dy, const QuadPlan& plan, const ConvGeometry& geometry,
            const QuadTiles& tiles);
  QuadGroup(const QuadGroup&) = delete;
  QuadGroup& operator=(const QuadGroup&) = delete;

  /// The grid of a group whose outputs have this shape.
  static QuadGrid grid_of(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry);
  /// Rows of the outputs whose products are sure to fit into 32 bits, if they have this width.
  static std::int64_t rows_in_32_bits(std::int64_t width) { return max_quad_products / (4 * width); }
  /// True if those of all rows do.
  bool is_one_unit() const { return grid().rows <= rows_in_32_bits(grid().out_width); }
  std::int64_t input_bytes() const { return operands_.input().bytes(); }

  /// Integer sums on the way. A thread uses its own again.
  using Integers = AlignedVector<std::int32_t>;

  /// Computes `count` tiles into `out`, or adds them to it: the sums of each unit of rows, times the scale.
  void compute(const QuadPlan::Tile& begin, std::int64_t count, bool adds, float* out,
               Integers& integers) const;

 private:
  /// Lines whose products are sure to fit. With several units a line is a row.
  std::int64_t lines_of_unit() const {
    return is_one_unit() ? grid().lines : rows_in_32_bits(grid().out_width);
  }
  const QuadGrid& grid() const { return operands_.grid(); }
  void finish(const QuadPlan::Tile& tile, std::int64_t unit, bool adds, std::int32_t* sums, float* out) const;
  // What the shift of a signed input adds to the sums: by unit and block of outputs.
  void sum_outputs();

  const QuadPlan& plan_;
  QuadOperands operands_;
  float scale_;
  const QuadTiles& tiles_;
  std::vector<QuadTile<std::int32_t>> kernels_;  ///< by block
  std::vector<std::vector<std::int32_t>> of_outputs_;
};

}  // namespace faq::kernels
