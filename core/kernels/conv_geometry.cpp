#include "core/kernels/conv_geometry.h"

#include <algorithm>

#include "core/hash.h"

namespace faq {

std::ostream& operator<<(std::ostream& out, const Padding& padding) {
  if (padding.is_symmetric()) return out << Extent(padding.top, padding.left);
  return out << "top " << padding.top << " left " << padding.left << " bottom " << padding.bottom << " right "
             << padding.right;
}

ConvGeometry ConvGeometry::of(const Shape& weights) const {
  ConvGeometry known = *this;
  known.kernel = {static_cast<int>(weights[2]), static_cast<int>(weights[3])};
  return known;
}

Extent ConvGeometry::window() const {
  return {(kernel.height - 1) * dilation.height + 1, (kernel.width - 1) * dilation.width + 1};
}

ConvGeometry ConvGeometry::with_same_padding(const Shape& images) const {
  check(images.rank() == 4 && images[1] > 0 && images[2] > 0, "conv2d: expected an N,H,W,C tensor, got ",
        images);
  const auto total = [&](std::int64_t size, int seen) {
    const std::int64_t last = (size - 1) / stride * stride;  // where the last window begins, without padding
    return static_cast<int>(std::max<std::int64_t>(last + seen - size, 0));
  };
  const int rows = total(images[1], window().height), columns = total(images[2], window().width);
  ConvGeometry padded = *this;
  padded.padding = {rows / 2, columns / 2, rows - rows / 2, columns - columns / 2};
  return padded;
}

std::size_t ConvGeometry::hash() const {
  return hash_of(kernel.height, kernel.width, stride, padding.top, padding.left, padding.bottom,
                 padding.right, dilation.height, dilation.width, groups);
}

std::ostream& operator<<(std::ostream& out, const ConvGeometry& geometry) {
  out << geometry.kernel << ", stride " << geometry.stride << ", padding " << geometry.padding;
  if (geometry.dilation != 1) out << ", dilation " << geometry.dilation;
  if (geometry.groups != 1) out << ", " << geometry.groups << " groups";
  return out;
}

}  // namespace faq

namespace faq::kernels {

Shape conv2d_shape(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  check(x.rank() == 4, "conv2d: expected an N,H,W,C tensor, got ", x);
  check(weights.rank() == 4, "conv2d: expected O,I,H,W weights, got ", weights);
  const ConvGeometry g = geometry.of(weights);
  check(geometry.kernel == 0 || geometry.kernel == g.kernel, "conv2d: a kernel of ", geometry.kernel,
        ", weights ", weights);
  check(g.stride > 0 && g.padding.top >= 0 && g.padding.left >= 0 && g.padding.bottom >= 0 &&
            g.padding.right >= 0 && g.dilation.height > 0 && g.dilation.width > 0 && g.groups > 0,
        "conv2d: ", g, " makes no sense");
  check(x[3] == weights[1] * g.groups, "conv2d: ", x[3], " input channels, weights ", weights, " want ",
        weights[1] * g.groups);
  check(weights.numel() > 0, "conv2d: no weights in ", weights);
  check(weights[0] % g.groups == 0, "conv2d: ", weights[0], " output channels in ", g.groups, " groups");
  const Extent window = g.window();
  const std::int64_t height = x[1] + g.padding.top + g.padding.bottom - window.height;
  const std::int64_t width = x[2] + g.padding.left + g.padding.right - window.width;
  check(height >= 0 && width >= 0, ErrorKind::usage, "conv2d: kernel ", weights, " does not fit an image of ",
        x, " with padding ", g.padding, ": larger images are needed");
  return {x[0], height / g.stride + 1, width / g.stride + 1, weights[0]};
}

bool covers_image(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  return weights[2] * weights[3] > 1 && weights[2] == x[1] && weights[3] == x[2] && geometry.groups == 1 &&
         geometry.padding == Padding(0) && geometry.dilation == Extent(1);
}

}  // namespace faq::kernels
