// What oneDNN's primitives of convolution are made for. Included by core/kernels/*.cpp only.
#pragma once

#include <cstddef>
#include <optional>

#include "core/dtype.h"
#include "core/hash.h"
#include "core/kernels/conv_geometry.h"
#include "core/shape.h"

namespace faq::kernels::onednn {

/// The description of a 2-D convolution that a primitive is made for. It is also the key of the caches.
struct ConvProblem {
  DType source, weight, destination;  ///< dtypes of values or of their gradients
  std::optional<DType> bias;
  Shape x, weights, y;    ///< N,H,W,C; O,I/G,H,W; N,H,W,C
  ConvGeometry geometry;  ///< the kernel must be that of the weights
  /// A primitive for several threads divides the work among that many, even if they are not there.
  int threads;

  std::size_t hash() const {
    const std::size_t dtypes =
        hash_of(source, weight, destination, bias.has_value(), bias.value_or(DType::f32));
    return hash_of(dtypes, x.hash(), weights.hash(), y.hash(), geometry.hash(), threads);
  }
  bool operator==(const ConvProblem&) const = default;
};

}  // namespace faq::kernels::onednn
