// The activation after a normalisation: clipping to an interval.
#pragma once

#include <cstddef>
#include <limits>
#include <ostream>

#include "core/fixed_point.h"

namespace faq {

/// y = min(max(x, low), high). Its gradient is 1 in (low, high], else 0.
struct Activation {
  float low = -std::numeric_limits<float>::infinity();
  float high = std::numeric_limits<float>::infinity();

  static const Activation identity, relu, relu6;

  std::size_t hash() const;
  bool operator==(const Activation&) const = default;
};
inline constexpr Activation Activation::identity{};
inline constexpr Activation Activation::relu{.low = 0.0f};
inline constexpr Activation Activation::relu6{.low = 0.0f, .high = 6.0f};

/// Writes "identity", "relu", or else the interval: "clip to [0, 6]".
std::ostream& operator<<(std::ostream& out, const Activation& activation);

/// The lowest and the highest integer of a format that are left after an activation.
struct Levels {
  float low = 0;
  float high = 0;
};
Levels levels_of(const Activation& activation, const FixedPoint& format);

}  // namespace faq
