// What the windows of a convolution see, as rows of bytes that tiles read (byte_tiles.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/kernels/conv_geometry.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The windows on images N,H,W,C of bytes, without groups. Each has a place in a row of places; some places
/// may have no output. What a window sees is pieces of byte_depth bytes, in the order of its taps, row by
/// row, and of their channels: zeros where it sees the border; anything behind the last channel of the last
/// tap.
class Windows {
 public:
  virtual ~Windows() = default;

  std::int64_t places() const { return places_; }
  /// Bytes from one place to the next.
  std::int64_t stride() const { return stride_; }
  /// Where the pieces of a window lie, from its place on.
  std::span<const std::int64_t> offsets() const { return offsets_; }
  /// Pieces of a line. All lines are as long.
  std::int64_t line() const { return line_; }

  /// Bytes that rows() needs for so many places.
  virtual std::int64_t buffer_bytes(std::int64_t count) const = 0;
  /// Returns the first of `count` places from `first` on: in the images, or in a copy in `buffer`. As many
  /// windows as are a multiple of 16 may be read.
  virtual const std::byte* rows(std::int64_t first, std::int64_t count, std::byte* buffer) const = 0;

  /// Places next to each other with outputs next to each other.
  struct Run {
    std::int64_t place, count;
    std::int64_t output;  ///< of the first, counted through all images
  };
  /// Appends the runs among `count` places from `first` on.
  virtual void append_runs(std::int64_t first, std::int64_t count, std::vector<Run>& runs) const = 0;

 protected:
  Windows(std::int64_t places, std::int64_t stride, std::vector<std::int64_t> offsets, std::int64_t line)
      : places_(places), stride_(stride), offsets_(std::move(offsets)), line_(line) {}

 private:
  std::int64_t places_, stride_;
  std::vector<std::int64_t> offsets_;
  std::int64_t line_;
};

/// The windows that tiles are faster with, as long as the images are there. y: the shape of the outputs.
/// copy_cost: see ByteTiles. Precondition: the geometry has its kernel.
std::unique_ptr<Windows> windows_of(const Tensor& x, const ConvGeometry& geometry, const Shape& y,
                                    float copy_cost);

}  // namespace faq::kernels
