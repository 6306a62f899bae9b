// The geometry of a 2-D convolution: what layers and kernels say to each other about it.
// Images N,H,W,C, weights O,I/G,H,W.
#pragma once

#include <cstddef>
#include <ostream>

#include "core/shape.h"

namespace faq {

/// Of a kernel or a border; one number stands for both.
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
/// As an Extent where it is symmetric.
std::ostream& operator<<(std::ostream& out, const Padding& padding);

struct ConvGeometry {
  Extent kernel = 0;  ///< 0: as the weights have it
  int stride = 1;
  Padding padding = 0;
  Extent dilation = 1;  ///< the distance between neighbours of the kernel, in pixels
  int groups = 1;       ///< output channels of group g see the input channels of group g only

  /// The same with the kernel those weights have.
  ConvGeometry of(const Shape& weights) const;
  /// Rows and columns from the first to the last that a window sees. Precondition: the kernel is known.
  Extent window() const;
  std::size_t hash() const;
  bool operator==(const ConvGeometry&) const = default;
};
/// "3×3, stride 2, padding 1×1"; dilation and groups where there are any.
std::ostream& operator<<(std::ostream& out, const ConvGeometry& geometry);

}  // namespace faq

namespace faq::kernels {

/// The shape of the output. Throws when the geometry makes no sense, when weights and image do not fit it,
/// and (usage) when the kernel does not fit the padded image.
Shape conv2d_shape(const Shape& x, const Shape& weights, const ConvGeometry& geometry);

}  // namespace faq::kernels
