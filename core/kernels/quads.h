// Images whose bytes lie side by side in fours. Included by core/kernels/*.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/quad_grid.h"
#include "core/kernels/quad_plan.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The input of a convolution as the tiles of its plan read it: block of channels, four images, row, column,
/// channel, image; with the border, and s8 as u8 plus 128 (so 128 is the border's zero).
class QuadInput {
 public:
  /// `plan` and `grid` must live as long.
  QuadInput(const Tensor& x, const QuadPlan& plan, const QuadGrid& grid, const ConvGeometry& geometry);

  bool is_shifted() const { return is_shifted_; }
  std::int64_t bytes() const { return bytes_.numel(); }
  /// What a tile sees at the first pixel of the first line.
  const std::uint8_t* at(const QuadPlan::Tile& tile) const;
  /// For each line: the offset from at(). Behind the last one stands its own again.
  std::vector<std::int64_t> lines_of(std::int64_t block) const;
  /// Bytes from one pixel of the outputs to the next.
  std::int64_t pixel(std::int64_t block) const { return grid_.stride * 4 * plan_.channels_of(block); }
  /// Bytes that belong to one line.
  std::int64_t line_bytes() const {
    return grid_.rows_of_line * grid_.stride * grid_.width * 4 * plan_.block_channels;
  }

 private:
  void fill(const Tensor& x, const ConvGeometry& geometry);

  const QuadPlan& plan_;
  const QuadGrid& grid_;
  Extent dilation_;
  bool is_shifted_;
  Tensor bytes_;
  const std::uint8_t* data_;
};

/// The gradient of the outputs: block of outputs, line, and then as QuadTiles::pack leaves it. Outputs,
/// pixels and images that there are not are zeros.
class QuadOutput {
 public:
  /// `grid` must live as long.
  QuadOutput(const Tensor& dy, const QuadPlan& plan, const QuadGrid& grid, const QuadTiles& tiles);

  const std::int8_t* at(std::int64_t output_block, std::int64_t line) const {
    return data_ + (output_block * grid_.lines + line) * grid_.line_width * outputs_ * 4;
  }
  /// Σ over lines [begin, end), their pixels and images, for each output of a block.
  std::vector<std::int32_t> sums(std::int64_t output_block, std::int64_t begin, std::int64_t end) const;

 private:
  const QuadGrid& grid_;
  std::int64_t outputs_, pixels_;
  Tensor bytes_;
  const std::int8_t* data_;
};

}  // namespace faq::kernels
