#include "core/kernels/rounded_gradient.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>

#include "core/kernels/element.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "core/rng.h"

namespace faq::kernels {
namespace {

constexpr int largest = 127;
constexpr float least_scale = 0x1p-120f;
constexpr std::uint32_t infinity_bits = 0x7F800000u;

// Numbers of Philox side by side, and the elements that one such run of blocks rounds: 8 halves of each.
constexpr int lanes = 16;
constexpr std::int64_t run = 8 * lanes;

// The largest magnitude. As integers the bits of magnitudes are in the same order, and NaN is the largest.
FAQ_SIMD std::uint32_t largest_bits(const float* g, std::int64_t n) {
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of_float(g[i]) & 0x7FFFFFFFu;
    most = bits > most ? bits : most;
  }
  return most;
}

// Of one image in one layer and step.
struct Counter {
  std::uint32_t stream, epoch, sample;
  std::array<std::uint32_t, 2> key;
};

// philox() (core/rng.h) for `lanes` counters that follow each other. words[w][lane]
[[gnu::always_inline]] inline void philox_lanes(std::uint32_t first, const Counter& at,
                                                std::uint32_t (*words)[lanes]) {
  for (int lane = 0; lane < lanes; ++lane) {
    std::uint32_t c0 = first + static_cast<std::uint32_t>(lane), c1 = at.stream, c2 = at.epoch,
                  c3 = at.sample;
    std::uint32_t k0 = at.key[0], k1 = at.key[1];
#pragma GCC unroll 10
    for (int round = 0; round < 10; ++round) {
      const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c0;
      const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(p0);
      k0 += 0x9E3779B9u;
      k1 += 0xBB67AE85u;
    }
    words[0][lane] = c0;
    words[1][lane] = c1;
    words[2][lane] = c2;
    words[3][lane] = c3;
  }
}

// floor(g·inverse + u) within ±127. Truncation and a comparison, because not every instruction set has floor
// for vectors.
[[gnu::always_inline]] inline std::int8_t rounded_down(float g, float inverse, std::uint32_t bits16) {
  const float x = g * inverse + static_cast<float>(static_cast<std::int32_t>(bits16)) * 0x1p-16f;
  const std::int32_t towards_zero = static_cast<std::int32_t>(x);
  const std::int32_t floor = towards_zero - (static_cast<float>(towards_zero) > x ? 1 : 0);
  return static_cast<std::int8_t>(clamped(floor, -largest, largest));
}

// Elements [begin, end) of an image; `begin` is a multiple of `run`.
FAQ_SIMD void round_elements(const float* g, float inverse, const Counter& at, std::int64_t begin,
                             std::int64_t end, std::int8_t* out) {
  for (std::int64_t i = begin; i < end; i += run) {
    std::uint32_t words[4][lanes];
    philox_lanes(static_cast<std::uint32_t>(i / run) * lanes, at, words);
    if (i + run <= end) {
      for (int half = 0; half < 8; ++half) {
        const int shift = half % 2 * 16;
        const float* from = g + i + half * lanes;
        std::int8_t* to = out + i + half * lanes;
        for (int lane = 0; lane < lanes; ++lane)
          to[lane] = rounded_down(from[lane], inverse, words[half / 2][lane] >> shift & 0xFFFFu);
      }
    } else {
      for (std::int64_t e = i; e < end; ++e) {
        const std::int64_t half = (e - i) / lanes;
        out[e] = rounded_down(g[e], inverse, words[half / 2][(e - i) % lanes] >> half % 2 * 16 & 0xFFFFu);
      }
    }
  }
}

std::uint32_t largest_bits_of(const Tensor& gradient) {
  const float* g = gradient.data<float>();
  std::atomic<std::uint32_t> most = 0;
  parallel_for(gradient.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    const std::uint32_t here = largest_bits(g + begin, end - begin);
    std::uint32_t known = most;
    while (known < here && !most.compare_exchange_weak(known, here)) {
    }
  });
  return most;
}

}  // namespace

RoundedGradient rounded(const Tensor& gradient, const RoundingKeys& keys, std::int64_t first) {
  const Booked booked(Work::fused);
  const std::int64_t images = gradient.dim(0);
  check(first + images <= std::ssize(keys.samples), "rounding of gradients: images ", first, " to ",
        first + images, ", the pass names ", keys.samples.size(), " samples (Pass::keys)");
  check(keys.layer >> 24 == 0 && keys.epoch >> 32 == 0, "rounding of gradients: layer ", keys.layer,
        ", epoch ", keys.epoch);
  const std::uint32_t bits = largest_bits_of(gradient);
  if (bits >= infinity_bits)
    return {Tensor::zeros(gradient.shape(), DType::s8), std::numeric_limits<float>::quiet_NaN()};
  const float scale = std::max(float_of_bits(bits) / largest, least_scale);
  RoundedGradient result{Tensor::empty(gradient.shape(), DType::s8), scale};
  const float* g = gradient.data<float>();
  std::int8_t* out = result.values.mutable_data<std::int8_t>();
  const std::int64_t length = gradient.numel() / std::max<std::int64_t>(images, 1);
  const std::int64_t runs = (length + run - 1) / run;
  parallel_for(images * runs, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t image = i / runs;
      const std::int64_t from = i % runs, to = std::min(from + end - i, runs);
      const Counter at{static_cast<std::uint32_t>(RandomStream::gradients) << 24 | keys.layer,
                       static_cast<std::uint32_t>(keys.epoch),
                       static_cast<std::uint32_t>(keys.samples[first + image]),
                       {static_cast<std::uint32_t>(keys.seed), static_cast<std::uint32_t>(keys.seed >> 32)}};
      round_elements(g + image * length, 1.0f / scale, at, from * run, std::min(to * run, length),
                     out + image * length);
      i += to - from;
    }
  });
  return result;
}

}  // namespace faq::kernels
