// Images whose bytes lie side by side in fours. Included by core/kernels/*.cpp only.
#pragma once

#include <cstdint>
#include <vector>

#include "core/kernels/quad_plan.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The input of a convolution as the tiles of its plan read it: block of channels, four images, row, column,
/// channel, image; with the border, and s8 as u8 plus 128 (so 128 is the border's zero).
class QuadInput {
 public:
  QuadInput(const Tensor& x, const Shape& dy, const QuadPlan& plan, const ConvGeometry& geometry);

  bool is_shifted() const { return is_shifted_; }
  std::int64_t bytes() const { return bytes_.numel(); }
  /// What a tile sees at the first pixel of the outputs' first row.
  const std::uint8_t* at(const QuadPlan::Tile& tile) const;
  /// For the rows of the outputs of all quads, one after the other: the offset from at(). Behind the last one
  /// stands its own again.
  std::vector<std::int64_t> rows_of(std::int64_t block) const;
  /// True if the first pixel of a row follows the last one of the row before.
  bool has_joined_rows() const { return stride_ == 1 && width_ == out_width_ && height_ == out_height_; }
  /// Bytes from one pixel of the outputs to the next.
  std::int64_t pixel(std::int64_t block) const { return stride_ * 4 * plan_.channels_of(block); }
  /// Bytes that belong to one row of the outputs.
  std::int64_t row_bytes() const { return stride_ * width_ * 4 * plan_.block_channels; }

 private:
  void fill(const Tensor& x, const ConvGeometry& geometry);

  const QuadPlan& plan_;
  Extent dilation_;
  std::int64_t quads_, out_height_, out_width_;
  int step_;                     ///< pixels of the image from one that is kept to the next
  std::int64_t stride_;          ///< of those that are kept, from one output to the next
  std::int64_t height_, width_;  ///< of what is kept of an image
  bool is_shifted_;
  Tensor bytes_;
  const std::uint8_t* data_;
};

/// The gradient of the outputs: block of outputs, four images, row, column, output, image. Outputs and images
/// that there are not are zeros.
class QuadOutput {
 public:
  QuadOutput(const Tensor& dy, const QuadPlan& plan);

  std::int64_t rows() const { return rows_; }    ///< of all quads
  std::int64_t width() const { return width_; }  ///< pixels of a row
  const std::int8_t* at(std::int64_t output_block, std::int64_t row) const {
    return data_ + (output_block * rows_ + row) * width_ * outputs_ * 4;
  }
  /// Σ over rows [begin, end), their pixels and images, for each output of a block.
  std::vector<std::int32_t> sums(std::int64_t output_block, std::int64_t begin, std::int64_t end) const;

 private:
  std::int64_t rows_, width_, outputs_;
  Tensor bytes_;
  const std::int8_t* data_;
};

}  // namespace faq::kernels
