// Counter-based random numbers. A value depends only on (seed, stream, counter). So it is the same whichever
// thread, worker or rank draws it, and resuming needs no generator state.
#pragma once

#include <array>
#include <cstdint>

namespace faq {

/// Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11).
struct Philox {
  static constexpr int rounds = 10;
  static constexpr std::uint32_t multiplier[] = {0xD2511F53u, 0xCD9E8D57u};
  static constexpr std::uint32_t weyl[] = {0x9E3779B9u, 0xBB67AE85u};  ///< added to the key after each round
};
std::array<std::uint32_t, 4> philox(std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key);

/// The uses of random numbers. Each has its own stream.
enum class RandomStream : std::uint32_t {
  initialization = 1,
  shuffle = 2,
  augmentation = 3,
  test = 4,
  synthetic = 5,
  dropout = 6,
  precision = 7,
  gradients = 8
};

/// A sequence of draws, addressed by (seed, stream, major, minor), e.g. (seed, augmentation, epoch, sample).
class Random {
 public:
  Random(std::uint64_t seed, RandomStream stream, std::uint64_t major = 0, std::uint64_t minor = 0);

  std::uint32_t next_u32();
  /// Uniform in [0, 1).
  double uniform();
  /// Uniform in [low, high).
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform integer in [0, bound); unbiased. Precondition: bound > 0.
  std::uint32_t below(std::uint32_t bound);
  /// Standard normal (Box-Muller).
  double normal();

 private:
  std::array<std::uint32_t, 4> counter_;
  std::array<std::uint32_t, 2> key_;
  std::array<std::uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace faq
