// The order of PyTorch's images.
#pragma once

#include "core/tensor.h"

namespace faq::kernels {

/// N,H,W,C as N,C,H,W. Any dtype; a scale stays.
Tensor channels_first(const Tensor& x);
/// N,C,H,W as N,H,W,C.
Tensor channels_last(const Tensor& x);

}  // namespace faq::kernels
