// Fixed-point numbers: value = integer × scale.
#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>

namespace faq {

/// Rounds half to even. It is the only rounding function of the system (default floating-point environment).
inline float round_half_even(float x) { return std::nearbyintf(x); }
inline double round_half_even(double x) { return std::nearbyint(x); }

/// The same for |x| ≤ 2^22 (f32) or 2^51 (double). Adding 1.5·2^23 (1.5·2^52) leaves no room for a fraction.
/// It takes two additions, which every instruction set has for whole vectors.
[[gnu::always_inline]] inline float round_half_even_in_range(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }
[[gnu::always_inline]] inline double round_half_even_in_range(double x) { return (x + 0x1.8p52) - 0x1.8p52; }

/// How to read the integers of a tensor. Unsigned integers lie in [0, 2^bits - 1]. Signed ones are symmetric
/// and narrow (FAQ, section 2.1): [-(2^(bits-1) - 1), 2^(bits-1) - 1].
struct FixedPoint {
  float scale = 1.0f;
  int bits = 8;
  bool is_signed = false;

  /// Precondition: it fits an int, that is, up to 32 bits signed or 31 bits unsigned.
  constexpr int max() const {
    return static_cast<int>((std::int64_t{1} << (is_signed ? bits - 1 : bits)) - 1);
  }
  constexpr int min() const { return is_signed ? -max() : 0; }
  bool operator==(const FixedPoint&) const = default;
};

inline std::ostream& operator<<(std::ostream& out, const FixedPoint& format) {
  return out << (format.is_signed ? "s" : "u") << format.bits << " scale " << format.scale;
}

}  // namespace faq
