#include "core/kernels/quad_grid.h"

#include <algorithm>

#include "core/division.h"

namespace faq::kernels {

QuadGrid::QuadGrid(const Shape& y, const QuadPlan& plan, const ConvGeometry& geometry, std::int64_t row_limit,
                   std::int64_t byte_limit)
    : quads(divided_up(y[0], plan.images)),
      out_height(y[1]),
      out_width(y[2]),
      // A single tap skips what lies between outputs.
      step(plan.height == 1 && plan.width == 1 ? geometry.stride : 1),
      stride(geometry.stride / step),
      height((y[1] - 1) * stride + (plan.height - 1) * geometry.dilation.height + 1),
      width((y[2] - 1) * stride + (plan.width - 1) * geometry.dilation.width + 1),
      rows(quads * out_height),
      rows_touch(stride == 1 && width == out_width && height == out_height),
      joinable_rows(rows_touch ? rows : out_height),
      rows_of_line(1) {
  const auto width_of = [&](std::int64_t of_line) {
    return divided_up((of_line - 1) * width + out_width, plan.pixels) * plan.pixels;
  };
  const auto lines_with = [&](std::int64_t of_line) {
    return rows / joinable_rows * divided_up(joinable_rows, of_line);
  };
  if (plan.pixels > 1 && rows <= row_limit) {
    // With more rows than that, what is left over at the end hardly counts.
    const std::int64_t most = std::min<std::int64_t>(joinable_rows, 64);
    const std::int64_t row_bytes = stride * width * 4 * plan.block_channels;
    std::int64_t fewest = lines_with(1) * width_of(1);
    for (std::int64_t n = 2; n <= most && n * row_bytes <= byte_limit; ++n) {
      const std::int64_t pixels = lines_with(n) * width_of(n);
      if (pixels < fewest) rows_of_line = n, fewest = pixels;
    }
  }
  lines = lines_with(rows_of_line);
  line_width = width_of(rows_of_line);
  lines_touch = rows_touch && (lines == 1 || line_width == rows_of_line * width);
}

QuadGrid::Line QuadGrid::line(std::int64_t number) const {
  const std::int64_t lines_together = divided_up(joinable_rows, rows_of_line);
  const std::int64_t before = number % lines_together * rows_of_line, left = joinable_rows - before;
  return {number / lines_together * joinable_rows + before, std::min(rows_of_line, left), left};
}

void QuadGrid::advance(Line& line) const {
  line.first_row += line.rows;
  line.left -= line.rows;
  if (line.left == 0) line.left = joinable_rows;
  line.rows = std::min(rows_of_line, line.left);
}

double QuadGrid::share_of_outputs() const {
  return static_cast<double>(rows * out_width) / static_cast<double>(lines * line_width);
}

}  // namespace faq::kernels
