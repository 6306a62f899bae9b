// Division that rounds up.
#pragma once

namespace faq {

/// ⌈n / by⌉, for n ≥ 0 and by > 0: how many parts of that size n has.
template <class N, class By>
constexpr auto divided_up(N n, By by) {
  return (n + by - 1) / by;
}

/// The smallest multiple of `unit` that is at least n.
template <class N, class Unit>
constexpr auto multiple_of(Unit unit, N n) {
  return divided_up(n, unit) * unit;
}

}  // namespace faq
