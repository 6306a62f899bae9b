// How images are resized.
#pragma once

namespace faq {

/// Pillow's filters, both with antialiasing: their support grows with the reduction.
enum class Interpolation {
  bilinear,  ///< a triangle
  bicubic    ///< a cubic convolution with a = -0.5
};

/// "bilinear" or "bicubic".
const char* name_of(Interpolation interpolation);

}  // namespace faq
