// Fixed-point numbers: value = integer × step.
#pragma once

#include <cmath>
#include <cstdint>
#include <ostream>

namespace faq {

/// Round half to even: the one rounding function of the system (default floating-point environment).
inline float round_half_even(float x) { return std::nearbyintf(x); }
inline double round_half_even(double x) { return std::nearbyint(x); }

/// How the integers of a tensor are to be read. Symmetric and narrow when signed (FAQ, section 2.1):
/// unsigned integers lie in [0, 2^bits - 1], signed ones in [-(2^(bits-1) - 1), 2^(bits-1) - 1].
struct FixedPoint {
  float step = 1.0f;
  int bits = 8;
  bool is_signed = false;

  int max() const { return is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1; }
  int min() const { return is_signed ? -max() : 0; }
  bool operator==(const FixedPoint&) const = default;
};

inline std::ostream& operator<<(std::ostream& out, const FixedPoint& format) {
  return out << (format.is_signed ? "s" : "u") << format.bits << " step " << format.step;
}

}  // namespace faq
