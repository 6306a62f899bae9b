// The part that a group of images has in a QuadGradient. Included by core/kernels/*.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/aligned_vector.h"
#include "core/kernels/quads.h"
#include "core/kernels/rounded_gradient.h"

namespace faq::kernels {

/// A group of images and the gradient of their outputs, interleaved in fours, and the sums of their products,
/// tile by tile. What is read again and again stays in a second-level cache of 1 MB.
class QuadGroup {
 public:
  static constexpr std::int64_t cache_bytes = 3 << 17;

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
  bool is_one_unit() const { return grid_.rows <= rows_in_32_bits(grid_.out_width); }
  std::int64_t input_bytes() const { return input_.bytes(); }

  /// Integer sums on the way. A thread uses its own again.
  using Integers = AlignedVector<std::int32_t>;

  /// Computes `count` tiles into `out`, or adds them to it: the sums of each unit of rows, times the scale.
  void compute(const QuadPlan::Tile& begin, std::int64_t count, bool adds, float* out,
               Integers& integers) const;

 private:
  /// Lines whose products are sure to fit. With several units a line is a row.
  std::int64_t lines_of_unit() const {
    return is_one_unit() ? grid_.lines : rows_in_32_bits(grid_.out_width);
  }
  void run(const QuadPlan::Tile& tile, std::int64_t from, std::int64_t to, bool adds,
           std::int32_t* sums) const;
  void finish(const QuadPlan::Tile& tile, std::int64_t unit, bool adds, std::int32_t* sums, float* out) const;
  // What the shift of a signed input adds to the sums: by unit and block of outputs.
  void sum_outputs();

  const QuadPlan& plan_;
  QuadGrid grid_;
  QuadInput input_;
  QuadOutput output_;
  float scale_;
  const QuadTiles& tiles_;
  std::vector<std::vector<std::int64_t>> lines_;  ///< by block
  std::vector<QuadTile> kernels_;                 ///< by block
  std::vector<std::vector<std::int32_t>> of_outputs_;
};

}  // namespace faq::kernels
