#include "core/kernels/exact_rounding.h"

#include <array>
#include <cmath>

namespace faq::kernels {
namespace {

// The sign of a sum of doubles, exactly: an expansion of parts that do not overlap grows by one after the
// other (Shewchuk, "Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric Predicates", 1997,
// section 2.4). Its last part that is not zero has the sign.
template <std::size_t N>
int sign_of_sum(const std::array<double, N>& terms) {
  std::array<double, N> parts{};
  for (std::size_t n = 0; n < N; ++n) {
    double carried = terms[n];
    for (std::size_t i = 0; i < n; ++i) {
      const double sum = carried + parts[i];
      const double of_part = sum - carried;
      parts[i] = (carried - (sum - of_part)) + (parts[i] - of_part);  // what the sum has lost
      carried = sum;
    }
    parts[n] = carried;
  }
  for (std::size_t i = N; i-- > 0;)
    if (parts[i] != 0) return parts[i] > 0 ? 1 : -1;
  return 0;
}

}  // namespace

double rounded_exactly(const ExactSum& v, double low, double high) {
  const double multiplier = v.multiplier;
  // A double has 53 bits: enough for each of these products.
  const double upper = (v.sum >> 16) * 65536.0 * multiplier, lower = (v.sum & 0xFFFF) * multiplier;
  const double added = v.residual * static_cast<double>(v.factor);
  // The sign of the exact sum minus the level.
  const auto above = [&](double level) {
    return sign_of_sum(std::array<double, 5>{upper, lower, v.bias, added, -level});
  };
  if (above(low) <= 0) return low;
  if (above(high) >= 0) return high;
  double below = low, beyond = high;  // the sum lies between them
  while (beyond - below > 1) {
    const double middle = std::floor((below + beyond) / 2);
    (above(middle) >= 0 ? below : beyond) = middle;
  }
  const int side = above(below + 0.5);
  const bool up = side > 0 || (side == 0 && std::fmod(below, 2) != 0);
  return up ? below + 1 : below;
}

}  // namespace faq::kernels
