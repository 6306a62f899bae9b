// The number format of gradients.
#pragma once

#include <cstddef>
#include <ostream>

#include "core/dtype.h"

namespace faq {

/// The format that the backward pass of an op computes in. It is a format and not a dtype: 8-bit gradients
/// exist inside an op only, each group of images with its scale (core/kernels/rounded_gradient.h).
struct GradFormat {
  enum class Kind {
    f32,
    bf16,
    s8,      ///< both gradients of an integer convolution are products of 8-bit integers
    s8_data  ///< the gradient of the data is; that of the weights is computed in floating point
  };
  Kind kind = Kind::f32;

  static const GradFormat f32, bf16, s8, s8_data;

  /// True if some convolution's gradients are products of integers.
  constexpr bool is_integer() const { return kind == Kind::s8 || kind == Kind::s8_data; }
  /// The dtype of the tensors that ops hand to each other.
  constexpr DType dtype() const { return kind == Kind::f32 ? DType::f32 : DType::bf16; }
  constexpr std::size_t hash() const { return static_cast<std::size_t>(kind); }
  constexpr bool operator==(const GradFormat&) const = default;
};
inline constexpr GradFormat GradFormat::f32{Kind::f32};
inline constexpr GradFormat GradFormat::bf16{Kind::bf16};
inline constexpr GradFormat GradFormat::s8{Kind::s8};
inline constexpr GradFormat GradFormat::s8_data{Kind::s8_data};

/// As --grad-dtype names them.
constexpr const char* name_of(const GradFormat& format) {
  switch (format.kind) {
    case GradFormat::Kind::f32:
      return "f32";
    case GradFormat::Kind::bf16:
      return "bf16";
    case GradFormat::Kind::s8:
      return "s8";
    case GradFormat::Kind::s8_data:
      return "s8-data";
  }
  return "";
}
inline std::ostream& operator<<(std::ostream& out, const GradFormat& format) {
  return out << name_of(format);
}

}  // namespace faq
