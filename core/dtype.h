// The element types of tensors.
#pragma once

#include <cstddef>
#include <cstdint>
#include <ostream>

namespace faq {

enum class DType : std::uint8_t { f32, bf16, s32, s16, s8, u8 };

/// bfloat16: the upper half of an f32. A conversion rounds half to even; NaN stays NaN.
struct bfloat16 {
  std::uint16_t bits = 0;
};

constexpr std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
    case DType::s32:
      return 4;
    case DType::bf16:
    case DType::s16:
      return 2;
    case DType::s8:
    case DType::u8:
      return 1;
  }
  return 0;
}

constexpr const char* name_of(DType dtype) {
  switch (dtype) {
    case DType::f32:
      return "f32";
    case DType::bf16:
      return "bf16";
    case DType::s32:
      return "s32";
    case DType::s16:
      return "s16";
    case DType::s8:
      return "s8";
    case DType::u8:
      return "u8";
  }
  return "?";
}

inline std::ostream& operator<<(std::ostream& out, DType dtype) { return out << name_of(dtype); }

template <class T>
struct dtype_of_type;
template <>
struct dtype_of_type<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of_type<bfloat16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of_type<std::int32_t> {
  static constexpr DType value = DType::s32;
};
template <>
struct dtype_of_type<std::int16_t> {
  static constexpr DType value = DType::s16;
};
template <>
struct dtype_of_type<std::int8_t> {
  static constexpr DType value = DType::s8;
};
template <>
struct dtype_of_type<std::uint8_t> {
  static constexpr DType value = DType::u8;
};

/// The DType of a C++ element type.
template <class T>
inline constexpr DType dtype_of = dtype_of_type<T>::value;

}  // namespace faq
