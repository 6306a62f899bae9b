// Images that lie side by side in quads: four of bytes, or two of bf16. Included by core/kernels/*.cpp only.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "core/kernels/quad_grid.h"
#include "core/kernels/quad_plan.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The input of a convolution as the tiles of its plan read it: block of channels, images of a quad, row,
/// column, channel, image; with the border, and s8 as u8 plus 128 (so 128 is the border's zero).
class QuadInput {
 public:
  /// x: u8 or s8 for quads of four images, bf16 for those of two. `plan` and `grid` must live as long.
  QuadInput(const Tensor& x, const QuadPlan& plan, const QuadGrid& grid, const ConvGeometry& geometry);

  bool is_shifted() const { return is_shifted_; }
  std::int64_t bytes() const { return bytes_.numel(); }
  /// True if no byte is above 15, as it is with activations of 4 bits. Reads them all.
  bool are_nibbles() const;
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
  /// dy: s8 for quads of four images, bf16 for those of two. `grid` must live as long.
  QuadOutput(const Tensor& dy, const QuadPlan& plan, const QuadGrid& grid, const QuadTileSet& tiles);

  const std::int8_t* at(std::int64_t output_block, std::int64_t line) const {
    return data_ + (output_block * grid_.lines + line) * grid_.line_width * outputs_ * 4;
  }
  /// Σ over lines [begin, end), their pixels and images, for each output of a block. Precondition: of s8.
  std::vector<std::int32_t> sums(std::int64_t output_block, std::int64_t begin, std::int64_t end) const;

 private:
  const QuadGrid& grid_;
  std::int64_t outputs_, pixels_;
  Tensor bytes_;
  const std::int8_t* data_;
};

/// A group of images and the gradient of their outputs, in quads. What is read again and again stays in a
/// second-level cache of 1 MB.
class QuadOperands {
 public:
  static constexpr std::int64_t cache_bytes = 3 << 17;

  /// x and dy: as for QuadInput and QuadOutput. `row_limit`: see QuadGrid. `plan` must live as long.
  QuadOperands(const Tensor& x, const Tensor& dy, const QuadPlan& plan, const ConvGeometry& geometry,
               const QuadTileSet& tiles, std::int64_t row_limit);
  QuadOperands(const QuadOperands&) = delete;
  QuadOperands& operator=(const QuadOperands&) = delete;

  const QuadGrid& grid() const { return grid_; }
  const QuadInput& input() const { return input_; }
  const QuadOutput& output() const { return output_; }
  /// Lines of which what the tiles of a block of channels read again and again stays in the cache.
  std::int64_t lines_of_band() const { return std::max<std::int64_t>(1, cache_bytes / input_.line_bytes()); }
  /// What a tile reads of lines [from, to).
  template <class Sum>
  QuadPixels<Sum> pixels(const QuadPlan::Tile& tile, std::int64_t from, std::int64_t to, bool adds,
                         Sum* sums) const {
    const bool are_one = grid_.lines_touch;
    const std::int64_t width = grid_.line_width;
    return {.x = input_.at(tile),
            .lines = &lines_[tile.block][from],
            .count = are_one ? 1 : to - from,
            .width = are_one ? (to - from) * width : width,
            .pixel = input_.pixel(tile.block),
            .dy = output_.at(tile.output_block, from),
            .adds = adds,
            .are_nibbles = are_nibbles_,
            .sums = sums};
  }

 private:
  QuadGrid grid_;
  QuadInput input_;
  QuadOutput output_;
  bool are_nibbles_;                              ///< false as well where tiles do not ask
  std::vector<std::vector<std::int64_t>> lines_;  ///< by block
};

}  // namespace faq::kernels
