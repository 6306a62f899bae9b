// Where the pixels of a group of images lie that a QuadGradient adds up. Included by core/kernels only.
#pragma once

#include <cstdint>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_plan.h"

namespace faq::kernels {

/// The pixels of a group of images, in fours (quads), and of their outputs.
///
/// A row of the outputs of four images counts as one, and the rows of all quads come one after the other. A
/// tile reads them in lines. Where it takes several pixels at a time (QuadPlan::pixels), a line is as many
/// rows as leave the fewest pixels over at its end: with the pixels of the input between them, whose outputs
/// are zeros.
struct QuadGrid {
  /// `y`: shape of the outputs. `row_limit`: if there are more rows, no line has two. `byte_limit`: of the
  /// input of a line that has two.
  QuadGrid(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry, std::int64_t row_limit,
           std::int64_t byte_limit);

  std::int64_t rows() const { return quads * out_height; }
  /// Rows that may share lines: those of a quad, or all.
  std::int64_t rows_of_stretch() const { return is_joined ? rows() : out_height; }
  std::int64_t lines_of_stretch() const { return (rows_of_stretch() + rows_of_line - 1) / rows_of_line; }
  std::int64_t lines() const { return rows() / rows_of_stretch() * lines_of_stretch(); }
  /// Rows that line has, below rows_of_line for the last one of a stretch.
  std::int64_t rows_in(std::int64_t line) const;
  std::int64_t first_row(std::int64_t line) const;
  /// Pixels of a line, a multiple of QuadPlan::pixels.
  std::int64_t line_width() const;
  /// True if the first pixel of a line follows the last one of the line before.
  bool has_joined_lines() const;

  std::int64_t quads, out_height, out_width;
  int step;                    ///< pixels of the image from one that is kept to the next
  std::int64_t stride;         ///< of those that are kept, from one output to the next
  std::int64_t height, width;  ///< of what is kept of an image
  bool is_joined;              ///< the first pixel of a row follows the last one of the row before
  std::int64_t rows_of_line;
  std::int64_t pixels;  ///< that a tile takes at a time
};

}  // namespace faq::kernels
