// The number format of gradients.
#pragma once

#include <cstddef>
#include <ostream>

#include "core/dtype.h"

namespace faq {

/// The format that the backward pass of an op computes in. It is a format and not a dtype: it can hold more
/// than a tensor's dtype does (a scale, a way of rounding).
struct GradFormat {
  enum class Kind { f32, bf16 };
  Kind kind = Kind::f32;

  static const GradFormat f32, bf16;

  /// The dtype of the tensors that hold gradients.
  constexpr DType dtype() const { return kind == Kind::bf16 ? DType::bf16 : DType::f32; }
  constexpr std::size_t hash() const { return static_cast<std::size_t>(kind); }
  constexpr bool operator==(const GradFormat&) const = default;
};
inline constexpr GradFormat GradFormat::f32{Kind::f32};
inline constexpr GradFormat GradFormat::bf16{Kind::bf16};

constexpr const char* name_of(const GradFormat& format) { return name_of(format.dtype()); }
inline std::ostream& operator<<(std::ostream& out, const GradFormat& format) {
  return out << name_of(format);
}

}  // namespace faq
