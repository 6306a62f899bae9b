// The geometry of a 2-D convolution, as layers pass it to kernels. Images N,H,W,C, weights O,I/G,H,W.
#pragma once

#include <cstddef>
#include <ostream>

#include "core/shape.h"

namespace faq {

/// The extent of a kernel or a border. One number stands for both directions.
struct Extent {
  int height;
  int width;
  constexpr Extent(int both) : height(both), width(both) {}
  constexpr Extent(int h, int w) : height(h), width(w) {}
  bool operator==(const Extent&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const Extent& extent) {
  return out << extent.height << "×" << extent.width;
}

/// Rows and columns of zeros around an image. One number stands for all sides, two for rows and columns.
struct Padding {
  int top;
  int left;
  int bottom;
  int right;
  constexpr Padding(int all) : Padding(all, all) {}
  constexpr Padding(int rows, int columns) : Padding(rows, columns, rows, columns) {}
  constexpr Padding(const Extent& extent) : Padding(extent.height, extent.width) {}
  constexpr Padding(int t, int l, int b, int r) : top(t), left(l), bottom(b), right(r) {}
  constexpr bool is_symmetric() const { return top == bottom && left == right; }
  bool operator==(const Padding&) const = default;
};
/// Writes it as an Extent if it is symmetric.
std::ostream& operator<<(std::ostream& out, const Padding& padding);

struct ConvGeometry {
  Extent kernel = 0;  ///< 0: the kernel of the weights
  int stride = 1;
  Padding padding = 0;
  Extent dilation = 1;  ///< distance in pixels between neighbours of the kernel
  int groups = 1;       ///< output channels of group g see the input channels of group g only

  /// Returns the same geometry with the kernel of these weights.
  ConvGeometry of(const Shape& weights) const;
  /// Rows and columns from the first to the last pixel that a window sees. Precondition: the kernel is known.
  Extent window() const;
  /// Returns the same geometry with TensorFlow's padding "SAME" for images N,H,W,C of this shape: as little
  /// as gives ⌈H/stride⌉ × ⌈W/stride⌉ outputs, the smaller half at the top and at the left. It depends on the
  /// images where the stride is not 1. Precondition: the kernel is known.
  ConvGeometry with_same_padding(const Shape& images) const;
  std::size_t hash() const;
  bool operator==(const ConvGeometry&) const = default;
};
/// Writes "3×3, stride 2, padding 1×1"; with dilation and groups if there are any.
std::ostream& operator<<(std::ostream& out, const ConvGeometry& geometry);

}  // namespace faq

namespace faq::kernels {

/// Returns the shape of the output. Throws when the geometry makes no sense, when weights or image do not fit
/// it, and (usage) when the kernel does not fit into the padded image.
Shape conv2d_shape(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

/// True if a filter of several taps is as large as the image, which has no border: then the convolution is a
/// product of matrices, as that of VGG's and AlexNet's first fully connected layer.
bool covers_image(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

}  // namespace faq::kernels
