// Gradients in 8 bits, rounded stochastically.
#pragma once

#include <cstdint>

#include "core/rounding_keys.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The gradient of a group of images: values × scale.
struct RoundedGradient {
  Tensor values;  ///< s8, in [−127, 127]
  float scale;    ///< NaN if the gradient was not finite: whatever is made of it is NaN
};

/// s, of gradients whose largest magnitude this is, or a bound of it: largest/127, at least 2^−120; NaN if it
/// is not finite.
float gradient_scale(float largest);

/// q = clamp(floor(g/s + u), −127, 127), with s of the largest |g| of the whole tensor and u uniform in
/// [0, 1), so that the mean of q·s is g (Banner et al., arXiv 1805.11046, section 4; Zhu et al., arXiv
/// 1912.12607).
///
/// u = (k + ½)/256 with a random byte k: the mean is right to 1/512 of a step. Element e of an image (counted
/// over H,W,C) takes k from Philox with the counter {e/256·16 + e mod 16, stream and layer, epoch, sample},
/// byte (e mod 256)/16 of its sixteen.
/// gradient: f32, of the images from `first` on of the batch that the keys name.
RoundedGradient rounded(const Tensor& gradient, const RoundingKeys& keys, std::int64_t first);

/// The same for gradients that are computed in blocks. Several threads may use it at a time.
class GradientRounder {
 public:
  /// `keys` must live as long. `length`: elements of an image.
  GradientRounder(const RoundingKeys& keys, std::int64_t length, float scale);

  /// Rounds elements [begin, begin + n) of an image of the batch. With a scale that is NaN they are zeros.
  void round(std::int64_t image, std::int64_t begin, std::int64_t n, const float* gradient,
             std::int8_t* out) const;

 private:
  const RoundingKeys& keys_;
  std::int64_t length_;
  float scale_;
};

}  // namespace faq::kernels
