// The shape of pooled images, for the pooling kernels.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// The shape of images N,H,W,C after windows with this stride and padding. Throws usage when no window fits.
inline Shape pooled(const char* op, const Shape& x, std::int64_t kernel, std::int64_t stride,
                    std::int64_t padding) {
  check(x.rank() == 4, op, ": expected an N,H,W,C tensor, got ", x);
  check(kernel > 0 && stride > 0 && padding >= 0 && 2 * padding <= kernel, op, ": kernel ", kernel,
        ", stride ", stride, ", padding ", padding);
  check(x[1] > 0 && x[2] > 0, op, ": an empty image ", x);
  const std::int64_t height = x[1] + 2 * padding - kernel, width = x[2] + 2 * padding - kernel;
  check(height >= 0 && width >= 0, ErrorKind::usage, op, ": a window of ", kernel, " does not fit ", x,
        ": larger images are needed");
  return {x[0], height / stride + 1, width / stride + 1, x[3]};
}

}  // namespace faq::kernels
