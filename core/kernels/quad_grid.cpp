#include "core/kernels/quad_grid.h"

#include <algorithm>

namespace faq::kernels {
namespace {

std::int64_t divided_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

}  // namespace

QuadGrid::QuadGrid(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry, std::int64_t row_limit,
                   std::int64_t byte_limit)
    : quads(divided_up(y[0], 4)),
      out_height(y[1]),
      out_width(y[2]),
      // A single tap skips what lies between outputs.
      step(plan.height == 1 && plan.width == 1 ? geometry.stride : 1),
      stride(geometry.stride / step),
      height((y[1] - 1) * stride + (plan.height - 1) * geometry.dilation.height + 1),
      width((y[2] - 1) * stride + (plan.width - 1) * geometry.dilation.width + 1),
      is_joined(stride == 1 && width == out_width && height == out_height),
      rows_of_line(1),
      pixels(plan.pixels) {
  if (rows() > row_limit) return;
  const std::int64_t row_bytes = stride * width * 4 * plan.block_channels;
  std::int64_t best = 1, fewest = lines() * line_width();
  for (rows_of_line = 2; rows_of_line <= rows_of_stretch() && rows_of_line * row_bytes <= byte_limit;
       ++rows_of_line) {
    const std::int64_t all = lines() * line_width();
    if (all < fewest) best = rows_of_line, fewest = all;
  }
  rows_of_line = best;
}

std::int64_t QuadGrid::first_row(std::int64_t line) const {
  return line / lines_of_stretch() * rows_of_stretch() + line % lines_of_stretch() * rows_of_line;
}

std::int64_t QuadGrid::rows_in(std::int64_t line) const {
  return std::min(rows_of_line, rows_of_stretch() - line % lines_of_stretch() * rows_of_line);
}

std::int64_t QuadGrid::line_width() const {
  return divided_up((rows_of_line - 1) * width + out_width, pixels) * pixels;
}

bool QuadGrid::has_joined_lines() const {
  return is_joined && (lines() == 1 || line_width() == rows_of_line * width);
}

}  // namespace faq::kernels
