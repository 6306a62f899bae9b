#include "core/activation.h"

#include <algorithm>

#include "core/hash.h"

namespace faq {

std::size_t Activation::hash() const { return hash_of(low, high); }

std::ostream& operator<<(std::ostream& out, const Activation& activation) {
  if (activation == Activation::identity) return out << "identity";
  if (activation == Activation::relu) return out << "relu";
  return out << "clip to [" << activation.low << ", " << activation.high << ']';
}

Levels levels_of(const Activation& activation, const FixedPoint& format) {
  return {std::max(static_cast<float>(format.min()), round_half_even(activation.low / format.scale)),
          std::min(static_cast<float>(format.max()), round_half_even(activation.high / format.scale))};
}

}  // namespace faq
