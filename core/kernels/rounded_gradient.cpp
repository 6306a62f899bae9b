#include "core/kernels/rounded_gradient.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/aligned_vector.h"
#include "core/cpu.h"
#include "core/division.h"
#include "core/kernels/element.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"
#include "core/rng.h"

namespace faq::kernels {
namespace {

constexpr int largest = 127;
constexpr float least_scale = 0x1p-120f;

// Numbers of Philox side by side, and the elements that one such run of blocks rounds: 16 bytes of each.
constexpr int lanes = 16;
constexpr std::int64_t run = 16 * lanes;

FAQ_SIMD std::uint32_t largest_bits(const float* g, std::int64_t n) {
  std::uint32_t most = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = magnitude_bits(g[i]);
    most = bits > most ? bits : most;
  }
  return most;
}

// Of one image in one layer and step.
struct Counter {
  std::uint32_t stream, epoch, sample;
  std::array<std::uint32_t, 2> key;
};

// philox() (core/rng.h) for `lanes` counters that follow each other.
struct Words {
  alignas(cache_line) std::uint32_t word[4][lanes];
};
FAQ_SIMD void philox_lanes(std::uint32_t first, const Counter& at, Words& words) {
  for (int lane = 0; lane < lanes; ++lane) {
    std::uint32_t c0 = first + static_cast<std::uint32_t>(lane), c1 = at.stream, c2 = at.epoch,
                  c3 = at.sample;
    std::uint32_t k0 = at.key[0], k1 = at.key[1];
#pragma GCC unroll 10
    for (int round = 0; round < Philox::rounds; ++round) {
      const std::uint64_t p0 = std::uint64_t{Philox::multiplier[0]} * c0;
      const std::uint64_t p1 = std::uint64_t{Philox::multiplier[1]} * c2;
      c0 = static_cast<std::uint32_t>(p1 >> 32) ^ c1 ^ k0;
      c1 = static_cast<std::uint32_t>(p1);
      c2 = static_cast<std::uint32_t>(p0 >> 32) ^ c3 ^ k1;
      c3 = static_cast<std::uint32_t>(p0);
      k0 += Philox::weyl[0];
      k1 += Philox::weyl[1];
    }
    words.word[0][lane] = c0;
    words.word[1][lane] = c1;
    words.word[2][lane] = c2;
    words.word[3][lane] = c3;
  }
}

#if defined(__x86_64__)
#define FAQ_AVX512 __attribute__((target("avx512f,avx512bw")))
using Lanes [[gnu::vector_size(4 * lanes)]] = std::uint32_t;
using Products [[gnu::vector_size(4 * lanes)]] = std::uint64_t;

// Products of the even lanes. (Without a mask GCC 12 warns about its own header.)
FAQ_AVX512 inline Products even_products(Lanes a, Lanes b) {
  return reinterpret_cast<Products>(
      _mm512_maskz_mul_epu32(0xFF, reinterpret_cast<__m512i>(a), reinterpret_cast<__m512i>(b)));
}
// The upper halves of all products.
FAQ_AVX512 inline Lanes upper_products(Lanes a, Lanes b) {
  const Products even = even_products(a, b);
  const Products odd = even_products(reinterpret_cast<Lanes>(reinterpret_cast<Products>(a) >> 32), b);
  constexpr std::uint64_t upper = 0xFFFFFFFF00000000u;
  return reinterpret_cast<Lanes>((even >> 32) | (odd & upper));
}
// The same as philox_lanes(), in half the time of what compilers make of that loop.
FAQ_AVX512 void philox_lanes_avx512(std::uint32_t first, const Counter& at, Words& words) {
  constexpr Lanes count{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const Lanes m0 = Lanes{} + Philox::multiplier[0], m1 = Lanes{} + Philox::multiplier[1];
  Lanes c0 = count + first, c1 = Lanes{} + at.stream, c2 = Lanes{} + at.epoch, c3 = Lanes{} + at.sample;
  std::uint32_t k0 = at.key[0], k1 = at.key[1];
  for (int round = 0; round < Philox::rounds; ++round) {
    const Lanes upper0 = upper_products(c0, m0), upper1 = upper_products(c2, m1);
    const Lanes lower0 = c0 * m0, lower1 = c2 * m1;
    c0 = upper1 ^ c1 ^ k0;
    c1 = lower1;
    c2 = upper0 ^ c3 ^ k1;
    c3 = lower0;
    k0 += Philox::weyl[0];
    k1 += Philox::weyl[1];
  }
  std::memcpy(words.word[0], &c0, sizeof c0);
  std::memcpy(words.word[1], &c1, sizeof c1);
  std::memcpy(words.word[2], &c2, sizeof c2);
  std::memcpy(words.word[3], &c3, sizeof c3);
}
#endif

// floor(g·inverse + u) within ±127. Truncation and a comparison, because not every instruction set has floor
// for vectors.
[[gnu::always_inline]] inline std::int32_t rounded_down(float g, float inverse, std::uint32_t byte) {
  const float x = g * inverse + (static_cast<float>(static_cast<std::int32_t>(byte)) * 0x1p-8f + 0x1p-9f);
  const std::int32_t towards_zero = static_cast<std::int32_t>(x);
  return clamped(towards_zero - (static_cast<float>(towards_zero) > x ? 1 : 0), -largest, largest);
}

// A whole run, first to 32 bits: a loop that also narrows is slower.
FAQ_SIMD void round_run(const float* g, float inverse, const Words& words, std::int8_t* out) {
  alignas(cache_line) std::int32_t q[run];
#pragma GCC unroll 16
  for (int byte = 0; byte < 16; ++byte) {
    const int shift = byte % 4 * 8;
    for (int lane = 0; lane < lanes; ++lane)
      q[byte * lanes + lane] =
          rounded_down(g[byte * lanes + lane], inverse, words.word[byte / 4][lane] >> shift & 0xFFu);
  }
  for (int i = 0; i < run; ++i) out[i] = static_cast<std::int8_t>(q[i]);
}

#if defined(__x86_64__)
// 16 elements, whose random bytes are those of `words` that begin with bit `shift`. Every step rounds as that
// of rounded_down(); the sum of a random byte's parts is exact.
FAQ_AVX512 inline __m512i rounded_16(const float* g, __m512 inverse, __m512i words, unsigned shift) {
  constexpr __mmask16 all = 0xFFFF;
  const __m512i byte =
      _mm512_maskz_and_epi32(all, _mm512_maskz_srli_epi32(all, words, shift), _mm512_set1_epi32(0xFF));
  const __m512 u =
      _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(all, byte), _mm512_set1_ps(0x1p-8f), _mm512_set1_ps(0x1p-9f));
  const __m512 x = _mm512_add_ps(_mm512_mul_ps(_mm512_loadu_ps(g), inverse), u);
  return _mm512_maskz_cvt_roundps_epi32(all, x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
// The same as round_run(), in fewer instructions than compilers make of that loop.
FAQ_AVX512 void round_run_avx512(const float* g, float inverse, const Words& words, std::int8_t* out) {
  const __m512 factor = _mm512_set1_ps(inverse);
  // Packing takes four bytes of each vector in turn, and clips at −128 and 127.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i least = _mm512_set1_epi8(-largest);
  for (int word = 0; word < 4; ++word, g += 4 * lanes, out += 4 * lanes) {
    const __m512i bits = _mm512_load_si512(words.word[word]);
    const __m512i low =
        _mm512_packs_epi32(rounded_16(g, factor, bits, 0), rounded_16(g + lanes, factor, bits, 8));
    const __m512i high = _mm512_packs_epi32(rounded_16(g + 2 * lanes, factor, bits, 16),
                                            rounded_16(g + 3 * lanes, factor, bits, 24));
    const __m512i bytes = _mm512_maskz_permutexvar_epi32(0xFFFF, order, _mm512_packs_epi16(low, high));
    _mm512_storeu_si512(out, _mm512_maskz_max_epi8(~__mmask64{0}, bytes, least));
  }
}
#endif

bool has_avx512() {
  static const bool has = simd_bytes() == 64;
  return has;
}

void philox_run(std::int64_t number, const Counter& at, Words& words) {
  const auto first = static_cast<std::uint32_t>(number) * lanes;
#if defined(__x86_64__)
  if (has_avx512()) return philox_lanes_avx512(first, at, words);
#endif
  philox_lanes(first, at, words);
}

void round_whole_run(const float* g, float inverse, const Words& words, std::int8_t* out) {
#if defined(__x86_64__)
  if (has_avx512()) return round_run_avx512(g, inverse, words, out);
#endif
  round_run(g, inverse, words, out);
}

}  // namespace

float gradient_scale(float largest_gradient) {
  if (!std::isfinite(largest_gradient)) return std::numeric_limits<float>::quiet_NaN();
  return std::max(largest_gradient / largest, least_scale);
}

GradientRounder::GradientRounder(const RoundingKeys& keys, std::int64_t length, float scale)
    : keys_(keys), length_(length), scale_(scale) {
  check(keys.layer >> 24 == 0 && keys.epoch >> 32 == 0, "rounding of gradients: layer ", keys.layer,
        ", epoch ", keys.epoch);
}

void GradientRounder::round(std::int64_t image, std::int64_t begin, std::int64_t n, const float* gradient,
                            std::int8_t* out) const {
  check(image < std::ssize(keys_.samples) && begin + n <= length_, "rounding of gradients: image ", image,
        ", the pass names ", keys_.samples.size(), " samples (Pass::keys)");
  if (std::isnan(scale_)) {
    std::fill_n(out, n, std::int8_t{0});
    return;
  }
  const Counter at{static_cast<std::uint32_t>(RandomStream::gradients) << 24 | keys_.layer,
                   static_cast<std::uint32_t>(keys_.epoch),
                   static_cast<std::uint32_t>(keys_.samples[static_cast<std::size_t>(image)]),
                   {static_cast<std::uint32_t>(keys_.seed), static_cast<std::uint32_t>(keys_.seed >> 32)}};
  const float inverse = 1.0f / scale_;
  const std::int64_t end = begin + n;
  Words words;
  for (std::int64_t i = begin; i < end;) {
    const std::int64_t first = i / run * run;
    const std::int64_t past = std::min(first + run, end);
    philox_run(i / run, at, words);
    const float* g = gradient + (i - begin);
    std::int8_t* to = out + (i - begin);
    if (past - i == run) {
      round_whole_run(g, inverse, words, to);
    } else {  // a part of a run
      float values[run] = {};
      std::int8_t q[run];
      std::copy_n(g, past - i, values + (i - first));
      round_whole_run(values, inverse, words, q);
      std::copy_n(q + (i - first), past - i, to);
    }
    i = past;
  }
}

RoundedGradient rounded(const Tensor& gradient, const RoundingKeys& keys, std::int64_t first) {
  const Booked booked(Work::fused);
  const float* g = gradient.data<float>();
  std::atomic<std::uint32_t> all = 0;
  parallel_for(gradient.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    const std::uint32_t here = largest_bits(g + begin, end - begin);
    std::uint32_t known = all;
    while (known < here && !all.compare_exchange_weak(known, here)) {
    }
  });
  RoundedGradient result{Tensor::empty(gradient.shape(), DType::s8), gradient_scale(float_of_bits(all))};
  std::int8_t* out = result.values.mutable_data<std::int8_t>();
  const std::int64_t images = gradient.dim(0);
  const std::int64_t length = gradient.numel() / std::max<std::int64_t>(images, 1);
  const std::int64_t part = 64 * run, parts = divided_up(length, part);
  const GradientRounder rounder(keys, length, result.scale);
  parallel_for(images * parts, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t image = i / parts, at = i % parts * part;
      rounder.round(first + image, at, std::min(part, length - at), g + image * length + at,
                    out + image * length + at);
    }
  });
  return result;
}

}  // namespace faq::kernels
