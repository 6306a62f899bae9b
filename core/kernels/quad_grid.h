// Where the pixels of a group of images lie that a QuadGradient or TiledGradient adds up. Included by
// core/kernels only.
#pragma once

#include <cstdint>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_plan.h"

namespace faq::kernels {

/// Below this share of products that belong to outputs, tiles of several pixels do not pay.
inline constexpr double least_share_of_outputs = 0.3;

/// The pixels of a group of images, in quads, and of their outputs.
///
/// A row of the outputs of a quad's images counts as one, and the rows of all quads come one after the other.
/// A tile reads them in lines. Where it takes one pixel at a time, a line is a row. Where it takes several, a
/// line is as many rows as leave the fewest pixels over at its end: with the pixels of the input between
/// them, whose outputs are zeros.
struct QuadGrid {
  /// `y`: shape of the outputs. `row_limit`: if there are more rows, no line has two. `byte_limit`: of the
  /// input of a line that has two.
  QuadGrid(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry, std::int64_t row_limit,
           std::int64_t byte_limit);

  /// Rows of one line, which may be fewer at the end of an image, and those from its first one to that end.
  struct Line {
    std::int64_t first_row, rows, left;
  };
  Line line(std::int64_t number) const;
  /// Makes it the next line.
  void advance(Line& line) const;
  /// Of the pixels that tiles multiply, the share that belongs to outputs, if all quads are full.
  double share_of_outputs() const;

  std::int64_t quads, out_height, out_width;
  int step;                    ///< pixels of the image from one that is kept to the next
  std::int64_t stride;         ///< of those that are kept, from one output to the next
  std::int64_t height, width;  ///< of what is kept of an image
  std::int64_t rows;           ///< of the outputs of all quads
  bool rows_touch;             ///< the first pixel of a row follows the last one of the row before
  std::int64_t joinable_rows;  ///< of which lines are made: those of a quad, or, if they touch, all
  std::int64_t rows_of_line, lines;
  std::int64_t line_width;  ///< pixels of a line, a multiple of QuadPlan::pixels
  bool lines_touch;         ///< the first pixel of a line follows the last one of the line before
};

}  // namespace faq::kernels
