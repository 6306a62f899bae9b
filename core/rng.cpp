#include "core/rng.h"

#include <cmath>
#include <numbers>

#include "core/error.h"

namespace faq {

std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> c, std::array<std::uint32_t, 2> k) {
  for (int round = 0; round < Philox::rounds; ++round) {
    const std::uint64_t p0 = std::uint64_t{Philox::multiplier[0]} * c[0];
    const std::uint64_t p1 = std::uint64_t{Philox::multiplier[1]} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k[0], static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k[1], static_cast<std::uint32_t>(p0)};
    k[0] += Philox::weyl[0];
    k[1] += Philox::weyl[1];
  }
  return c;
}

Random::Random(std::uint64_t seed, RandomStream stream, std::uint64_t major, std::uint64_t minor)
    : counter_{0, static_cast<std::uint32_t>(stream) << 24, static_cast<std::uint32_t>(major),
               static_cast<std::uint32_t>(minor)},
      key_{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)} {
  check(major >> 32 == 0 && minor >> 32 == 0, "random: stream addresses are 32 bits, got ", major, " and ",
        minor);
}

std::uint32_t Random::next_u32() {
  if (used_ == 4) {
    block_ = philox(counter_, key_);
    ++counter_[0];
    used_ = 0;
  }
  return block_[used_++];
}

double Random::uniform() {
  const std::uint64_t high = next_u32() >> 6;
  const std::uint64_t low = next_u32() >> 5;
  return static_cast<double>((high << 27) | low) * 0x1p-53;
}

std::uint32_t Random::below(std::uint32_t bound) {
  check(bound > 0, "random: below() wants a positive bound");
  // Lemire, "Fast random integer generation in an interval", 2019: reject the few values that would bias.
  const std::uint32_t threshold = -bound % bound;
  for (;;) {
    const std::uint64_t product = std::uint64_t{next_u32()} * bound;
    if (static_cast<std::uint32_t>(product) >= threshold) return static_cast<std::uint32_t>(product >> 32);
  }
}

double Random::normal() {
  const double radius = std::sqrt(-2.0 * std::log1p(-uniform()));
  return radius * std::cos(2.0 * std::numbers::pi * uniform());
}

}  // namespace faq
