#include "core/kernels/requantizer.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <initializer_list>
#include <numeric>
#include <span>
#include <type_traits>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/exact_rounding.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// q = clamp(round(acc·multiplier + bias + residual·factor)), correctly rounded on every instruction set. It
// is first computed in f32, which nearly always decides. Where f32 is so close to a tie that its error might
// matter, it is computed again in double; where that is not enough either, exactly.
using RowParams = Requantizer::RowParams;
using Block = Requantizer::Block;

/// Values that are computed again in double together if one of them is uncertain.
constexpr std::int64_t piece = 128;

/// Values of a block, which stay in the first-level cache with their factors.
constexpr std::int64_t longest_block = 2048;

// Returns true if all results are certain.
template <class A, class R, class Q>
[[gnu::always_inline]] inline bool requantize_f32(const A* acc, const R* r, const RowParams& p,
                                                  Q* __restrict out, std::int64_t n) {
  int uncertain = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    float z = static_cast<float>(acc[i]) * p.multiplier[i] + p.bias[i];
    if (!std::is_same_v<R, Nothing>) z += element(r, i) * p.residual_factor;
    z = clamped(z, p.low, p.high);
    const float q = round_half_even_in_range(z);
    uncertain |= magnitude_of(z - q) <= p.certain ? 0 : 1;  // NaN, after an overflow of f32, is uncertain too
    out[i] = static_cast<Q>(static_cast<std::int32_t>(q > p.low ? q : p.low));  // NaN is no integer
  }
  return uncertain == 0;
}

// Returns true if all results are certain; tells which are not.
template <class A, class R, class Q>
[[gnu::always_inline]] inline bool requantize_f64(const A* acc, const R* r, const RowParams& p,
                                                  Q* __restrict out, std::uint8_t* __restrict is_uncertain,
                                                  std::int64_t n) {
  // Of the terms: double rounds three times, by half of its last bit each.
  constexpr double error = 0x1p-50;
  int uncertain = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double product = static_cast<double>(acc[i]) * p.multiplier[i];
    double z = product + p.bias[i];
    double terms = magnitude_of(product) + magnitude_of(static_cast<double>(p.bias[i]));
    if (!std::is_same_v<R, Nothing>) {
      const double added = static_cast<double>(element(r, i)) * p.residual_factor;
      z += added;
      terms += magnitude_of(added);
    }
    // The limits are integers, so clipping before rounding gives the same as clipping after it.
    z = clamped(z, static_cast<double>(p.low), static_cast<double>(p.high));
    const double q = round_half_even_in_range(z);
    const int near_tie = magnitude_of(z - q) >= 0.5 - error * terms ? 1 : 0;
    uncertain |= near_tie;
    is_uncertain[i] = static_cast<std::uint8_t>(near_tie);
    out[i] = static_cast<Q>(static_cast<std::int32_t>(q > p.low ? q : p.low));  // NaN is no integer
  }
  return uncertain == 0;
}

template <class A, class R, class Q>
void requantize_exactly(const A* acc, const R* r, const RowParams& p, const std::uint8_t* is_uncertain,
                        Q* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    if (!is_uncertain[i]) continue;
    ExactSum value{acc[i], p.multiplier[i], p.bias[i], 0, p.residual_factor};
    if constexpr (!std::is_same_v<R, Nothing>) value.residual = r[i];
    out[i] = static_cast<Q>(static_cast<std::int32_t>(rounded_exactly(value, p.low, p.high)));
  }
}

template <class A, class R, class Q>
[[gnu::always_inline]] inline void requantize_loop(const A* acc, const R* r, RowParams p, Q* out,
                                                   std::int64_t n) {
  std::uint8_t is_uncertain[piece];
  for (std::int64_t i = 0; i < n; i += piece) {
    const std::int64_t length = std::min(piece, n - i);
    const RowParams here = p.from(i);
    const R* r_here = behind(r, i);
    if (!requantize_f32(acc + i, r_here, here, out + i, length) &&
        !requantize_f64(acc + i, r_here, here, out + i, is_uncertain, length))
      requantize_exactly(acc + i, r_here, here, is_uncertain, out + i, length);
  }
}

#define FAQ_REQUANTIZE(A, R, Q)                                                                   \
  FAQ_SIMD void requantize_block(const A* acc, const R* r, RowParams p, Q* out, std::int64_t n) { \
    requantize_loop(acc, r, p, out, n);                                                           \
  }
FAQ_REQUANTIZE(std::int32_t, Nothing, std::uint8_t)
FAQ_REQUANTIZE(std::int32_t, std::uint8_t, std::uint8_t)
FAQ_REQUANTIZE(std::int32_t, std::int8_t, std::uint8_t)
FAQ_REQUANTIZE(std::int32_t, Nothing, std::int8_t)
FAQ_REQUANTIZE(std::int32_t, std::uint8_t, std::int8_t)
FAQ_REQUANTIZE(std::int32_t, std::int8_t, std::int8_t)
FAQ_REQUANTIZE(std::uint8_t, Nothing, std::uint8_t)
FAQ_REQUANTIZE(std::uint8_t, Nothing, std::int8_t)
FAQ_REQUANTIZE(std::int8_t, Nothing, std::uint8_t)
FAQ_REQUANTIZE(std::int8_t, Nothing, std::int8_t)
#undef FAQ_REQUANTIZE

#if defined(__x86_64__)
#define FAQ_AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl")))

// (Without a mask GCC 12 warns about its own header.)
constexpr __mmask16 all16 = 0xFFFF;

// The lanes of `mask`; the others are 0.
FAQ_AVX512 inline __m512 floats_of(const std::int32_t* acc, __mmask16 mask) {
  return _mm512_maskz_cvtepi32_ps(all16, _mm512_maskz_loadu_epi32(mask, acc));
}
FAQ_AVX512 inline __m512 floats_of(const std::uint8_t* r, __mmask16 mask) {
  return _mm512_maskz_cvtepi32_ps(all16, _mm512_maskz_cvtepu8_epi32(all16, _mm_maskz_loadu_epi8(mask, r)));
}
FAQ_AVX512 inline __m512 floats_of(const std::int8_t* r, __mmask16 mask) {
  return _mm512_maskz_cvtepi32_ps(all16, _mm512_maskz_cvtepi8_epi32(all16, _mm_maskz_loadu_epi8(mask, r)));
}

// Multipliers and biases of 16 values from i on.
struct Factors16 {
  __m512 multiplier, bias;
};

FAQ_AVX512 inline Factors16 factors_of(const RowParams& p, std::int64_t i, __mmask16 mask = all16) {
  return {_mm512_maskz_loadu_ps(mask, p.multiplier + i), _mm512_maskz_loadu_ps(mask, p.bias + i)};
}

// The integers of 16 values, of which those of `mask` are read, and how far f32 is from them. Only what is
// too large is clipped: what is too small has integers that are, down to INT_MIN.
struct Rounded16 {
  __m512i q;
  __m512 error;
};

// What requantize_f32() computes, in fewer instructions than compilers make of it. Sums of products are
// fused, which makes the error smaller; where it might matter, all the same is computed again.
template <class A, class R>
FAQ_AVX512 inline Rounded16 requantize_16(const A* acc, const R* r, const RowParams& p, const Factors16& f,
                                          std::int64_t i, __mmask16 mask = all16) {
  __m512 z = _mm512_fmadd_ps(floats_of(acc + i, mask), f.multiplier, f.bias);
  if constexpr (!std::is_same_v<R, Nothing>)
    z = _mm512_fmadd_ps(floats_of(r + i, mask), _mm512_set1_ps(p.residual_factor), z);
  z = _mm512_maskz_min_ps(all16, _mm512_set1_ps(p.high), z);
  constexpr int to_nearest_even = 0;
  return {_mm512_maskz_cvtps_epi32(all16, z), _mm512_maskz_reduce_ps(all16, z, to_nearest_even)};
}

FAQ_AVX512 inline __m512 larger_magnitude(__m512 a, __m512 b) {
  constexpr int largest_magnitude = 3, sign_cleared = 2 << 2;
  return _mm512_maskz_range_ps(all16, a, b, sign_cleared | largest_magnitude);
}

// Which of the values may have the wrong integer.
FAQ_AVX512 inline __mmask16 uncertain_ones(__m512 error, const RowParams& p) {
  return _mm512_cmp_ps_mask(_mm512_abs_ps(error), _mm512_set1_ps(p.certain), _CMP_GT_OQ);
}

// Packing clips to the dtype's range.
FAQ_AVX512 inline __m512i narrowed(__m512i a, __m512i b, std::uint8_t) { return _mm512_packus_epi16(a, b); }
FAQ_AVX512 inline __m512i narrowed(__m512i a, __m512i b, std::int8_t) { return _mm512_packs_epi16(a, b); }

FAQ_AVX512 inline __m512i at_least(__m512i bytes, std::uint8_t low) {
  return _mm512_maskz_max_epu8(~__mmask64{0}, bytes, _mm512_set1_epi8(static_cast<char>(low)));
}
FAQ_AVX512 inline __m512i at_least(__m512i bytes, std::int8_t low) {
  return _mm512_maskz_max_epi8(~__mmask64{0}, bytes, _mm512_set1_epi8(low));
}

// Of 64 values from i on. Returns a bit for each: 1 where it is uncertain.
template <class A, class R, class Q>
FAQ_AVX512 inline std::uint64_t requantize_64(const A* acc, const R* r, const RowParams& p,
                                              const Factors16 (&f)[4], Q* out, std::int64_t i) {
  const Rounded16 a = requantize_16(acc, r, p, f[0], i), b = requantize_16(acc, r, p, f[1], i + 16);
  const Rounded16 c = requantize_16(acc, r, p, f[2], i + 32), d = requantize_16(acc, r, p, f[3], i + 48);
  // Packing takes four bytes of each vector in turn.
  const __m512i order = _mm512_set_epi32(15, 11, 7, 3, 14, 10, 6, 2, 13, 9, 5, 1, 12, 8, 4, 0);
  const __m512i bytes = narrowed(_mm512_packs_epi32(a.q, b.q), _mm512_packs_epi32(c.q, d.q), Q{});
  _mm512_storeu_si512(out + i,
                      at_least(_mm512_maskz_permutexvar_epi32(all16, order, bytes), static_cast<Q>(p.low)));
  const __m512 largest =
      larger_magnitude(larger_magnitude(a.error, b.error), larger_magnitude(c.error, d.error));
  if (uncertain_ones(largest, p) == 0) [[likely]]
    return 0;
  const std::uint64_t of_a = uncertain_ones(a.error, p), of_b = uncertain_ones(b.error, p);
  const std::uint64_t of_c = uncertain_ones(c.error, p), of_d = uncertain_ones(d.error, p);
  return of_d << 48 | of_c << 32 | of_b << 16 | of_a;
}

// Of n ≤ 16 values from i on.
template <class A, class R, class Q>
FAQ_AVX512 inline std::uint64_t requantize_few(const A* acc, const R* r, const RowParams& p, Q* out,
                                               std::int64_t i, std::int64_t n) {
  const auto mask = static_cast<__mmask16>((1u << n) - 1);
  const Rounded16 values = requantize_16(acc, r, p, factors_of(p, i, mask), i, mask);
  const __m512i low = _mm512_set1_epi32(static_cast<std::int32_t>(p.low));
  _mm512_mask_cvtepi32_storeu_epi8(out + i, mask, _mm512_maskz_max_epi32(all16, values.q, low));
  return mask & uncertain_ones(values.error, p);
}

// Computes the uncertain ones of n values from i on again: all n where they are many.
template <class A, class R, class Q>
void settle(const A* acc, const R* r, const RowParams& p, Q* out, std::int64_t i, std::int64_t n,
            std::uint64_t uncertain) {
  constexpr int many = 8;
  if (std::popcount(uncertain) >= many) return requantize_block(acc + i, behind(r, i), p.from(i), out + i, n);
  for (; uncertain != 0; uncertain &= uncertain - 1) {
    const std::int64_t at = i + std::countr_zero(uncertain);
    const RowParams here = p.from(at);
    std::uint8_t is_uncertain;
    if (!requantize_f64(acc + at, behind(r, at), here, out + at, &is_uncertain, 1))
      requantize_exactly(acc + at, behind(r, at), here, &is_uncertain, out + at, 1);
  }
}

template <class A, class R, class Q>
FAQ_AVX512 void requantize_block_avx512(const A* acc, const R* r, const RowParams& p, Q* out,
                                        std::int64_t n) {
  constexpr std::int64_t width = 64;
  Factors16 factors[4];
  for (std::int64_t i = 0; i + width <= n; i += width) {
    if (i == 0 || p.period != width)  // those of 64 channels stay in registers
      for (int k = 0; k < 4; ++k) factors[k] = factors_of(p, i + 16 * k);
    const std::uint64_t uncertain = requantize_64(acc, r, p, factors, out, i);
    if (uncertain != 0) [[unlikely]]
      settle(acc, r, p, out, i, width, uncertain);
  }
  for (std::int64_t i = n / width * width, step; i < n; i += step) {
    step = std::min<std::int64_t>(16, n - i);
    const std::uint64_t uncertain = requantize_few(acc, r, p, out, i, step);
    if (uncertain != 0) settle(acc, r, p, out, i, step, uncertain);
  }
}

// Of a block: the factors of some channels stay in registers.
template <class R, class Q>
FAQ_AVX512 void requantize_rows_avx512(const Block& block, const R* r, const RowParams& p, Q* out,
                                       std::int64_t row_length) {
  constexpr std::int64_t width = 64;
  const std::int64_t whole = block.channels / width * width;
  for (std::int64_t i = 0; i < whole; i += width) {
    Factors16 factors[4];
    for (int k = 0; k < 4; ++k) factors[k] = factors_of(p, i + 16 * k);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const std::int32_t* acc = block.sums + row * block.stride;
      const R* residual = behind(r, row * row_length);
      Q* to = out + row * row_length;
      const std::uint64_t uncertain = requantize_64(acc, residual, p, factors, to, i);
      if (uncertain != 0) [[unlikely]]
        settle(acc, residual, p, to, i, width, uncertain);
    }
  }
  for (std::int64_t i = whole, step; i < block.channels; i += step) {
    step = std::min<std::int64_t>(16, block.channels - i);
    for (std::int64_t row = 0; row < block.rows; ++row) {
      const std::int32_t* acc = block.sums + row * block.stride;
      const R* residual = behind(r, row * row_length);
      Q* to = out + row * row_length;
      const std::uint64_t uncertain = requantize_few(acc, residual, p, to, i, step);
      if (uncertain != 0) [[unlikely]]
        settle(acc, residual, p, to, i, step, uncertain);
    }
  }
}
#endif

template <class A, class R, class Q>
void requantize_values(const A* acc, const R* r, const RowParams& p, Q* out, std::int64_t n) {
#if defined(__x86_64__)
  static const bool has_avx512 = simd_bytes() == 64;
  if (has_avx512 && p.no_overflow) return requantize_block_avx512(acc, r, p, out, n);
#endif
  requantize_block(acc, r, p, out, n);
}

// r and out: of the block's first element.
template <class R, class Q>
void requantize_rows(const Block& block, const R* r, const RowParams& p, Q* out, std::int64_t row_length) {
#if defined(__x86_64__)
  static const bool has_avx512 = simd_bytes() == 64;
  if (has_avx512 && p.no_overflow) return requantize_rows_avx512(block, r, p, out, row_length);
#endif
  for (std::int64_t row = 0; row < block.rows; ++row)
    requantize_values(block.sums + row * block.stride, behind(r, row * row_length), p, out + row * row_length,
                      block.channels);
}

constexpr const Nothing* no_residual = nullptr;

// Calls body(residual) with the elements from `offset` on, in their own dtype.
template <class Body>
void with_residual(const void* residual, DType dtype, std::int64_t offset, Body body) {
  if (residual == nullptr) return body(no_residual);
  if (dtype == DType::u8) return body(static_cast<const std::uint8_t*>(residual) + offset);
  body(static_cast<const std::int8_t*>(residual) + offset);
}

// Calls body(accumulators, residual) with the elements from `offset` on, in their own dtypes.
template <class Body>
void with_operands(const Tensor& accumulators, const Tensor& residual, std::int64_t offset, Body body) {
  if (accumulators.dtype() == DType::u8) return body(accumulators.data<std::uint8_t>() + offset, no_residual);
  if (accumulators.dtype() == DType::s8) return body(accumulators.data<std::int8_t>() + offset, no_residual);
  const std::int32_t* acc = accumulators.data<std::int32_t>() + offset;
  with_residual(residual ? residual.raw() : nullptr, residual ? residual.dtype() : DType::u8, offset,
                [&](const auto* r) { body(acc, r); });
}

float largest_magnitude(const Tensor& x) {
  float largest = 0;
  for (const float value : x.span<float>()) largest = std::max(largest, std::abs(value));
  return largest;
}

// True if f32 can hold the sum of three such factors times any accumulators.
bool no_overflow(std::initializer_list<std::span<const float>> factors) {
  return std::ranges::all_of(factors, [](std::span<const float> some) {
    return std::ranges::all_of(some,
                               [](float factor) { return std::abs(factor) < 0x1p64f; });  // no NaN either
  });
}

// Elements after which the factors of channels repeat at a multiple of 64; 0 where those are more than 2048.
std::int64_t period_of(std::int64_t channels) {
  const std::int64_t period = std::lcm(channels, std::int64_t{64});
  return period <= longest_block ? period : 0;
}

// Rows of channels in a block; 0: ChannelBlocks chooses.
std::int64_t rows_of_block(std::int64_t channels) {
  const std::int64_t period = period_of(channels);
  return period == 0 ? 0 : longest_block / period * period / channels;
}

}  // namespace

Requantizer::Requantizer(const Requantize& params, std::int64_t channels)
    : format_(params.format), channels_(channels) {
  check_channels("requantize: multiplier", params.multiplier, channels);
  check_channels("requantize: bias", params.bias, channels);
  const ChannelBlocks blocks = blocks_of({1, channels});
  const auto repeated = [&](const Tensor& of_channels) {
    Tensor values = Tensor::empty({blocks.length()});
    blocks.repeat(of_channels.data<float>(), values.mutable_data<float>());
    return values;
  };
  multiplier_ = repeated(params.multiplier);
  bias_ = repeated(params.bias);
  // A value that is not clipped is at most 2^8, and each of its terms is at most that plus the other two.
  // There are at most five roundings (two products, two sums, an accumulator above 2^24), each off by at most
  // 2^-24 of it.
  const float terms = 256.0f + largest_magnitude(params.bias) + 256.0f * std::abs(params.residual_multiplier);
  const Levels levels = levels_of(params.activation, format_);
  row_ = {
      .multiplier = multiplier_.data<float>(),
      .bias = bias_.data<float>(),
      .residual_factor = params.residual_multiplier,
      .low = levels.low,
      .high = levels.high,
      .certain = 0.5f - 6 * 0x1p-24f * terms,
      .period = period_of(channels) != 0 ? period_of(channels) : blocks.length(),
      .no_overflow = no_overflow(
          {params.multiplier.span<float>(), params.bias.span<float>(), {&params.residual_multiplier, 1}})};
}

ChannelBlocks Requantizer::blocks_of(const Shape& shape) const {
  check(channels_ > 0 && shape[shape.rank() - 1] == channels_, "requantize: ", channels_, " multipliers for ",
        shape);
  return ChannelBlocks(shape, rows_of_block(channels_));
}

void Requantizer::check_places(const Shape& sums, const Tensor& residual, const Tensor& out) const {
  check(sums[sums.rank() - 1] == channels_, "requantize: ", channels_, " multipliers for ", sums);
  check(!residual || residual.shape() == sums, "requantize: residual ", residual.shape(), " for ", sums);
  check(!residual || residual.dtype() == DType::u8 || residual.dtype() == DType::s8,
        "requantize: residual u8 or s8, got ", residual ? residual.dtype() : DType::u8);
  expect_place("requantize", out, sums, format_.is_signed ? DType::s8 : DType::u8);
}

template <class A, class R>
void Requantizer::values(const A* acc, const R* r, std::int64_t n, void* out, std::int64_t offset) const {
  if (format_.is_signed) {
    requantize_values(acc, r, row_, static_cast<std::int8_t*>(out) + offset, n);
  } else {
    requantize_values(acc, r, row_, static_cast<std::uint8_t*>(out) + offset, n);
  }
}

void Requantizer::operator()(const Tensor& accumulators, const Tensor& residual, Tensor& out) const {
  const Booked booked(Work::fused);
  check_places(accumulators.shape(), residual, out);
  check(!residual || accumulators.dtype() == DType::s32, "requantize: ", accumulators.dtype(),
        " and a residual");
  const ChannelBlocks blocks = blocks_of(accumulators.shape());
  void* to = out.mutable_raw();
  parallel_for(blocks.count(), 2, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t offset = blocks.offset(block);
      with_operands(accumulators, residual, offset,
                    [&](const auto* acc, const auto* r) { values(acc, r, blocks.size(block), to, offset); });
    }
  });
}

Requantizer::Places Requantizer::places(const Shape& sums, const Tensor& residual, Tensor& out) const {
  check_places(sums, residual, out);
  return {residual ? static_cast<const std::byte*>(residual.raw()) : nullptr,
          residual ? residual.dtype() : DType::u8, static_cast<std::byte*>(out.mutable_raw())};
}

void Requantizer::operator()(const Block& block, const Places& places) const {
  const bool is_whole = block.channels == channels_ && block.stride == channels_;
  if (is_whole && block.rows > 1 && block.rows * channels_ <= multiplier_.numel())
    return (*this)({block.sums, block.rows * channels_, block.first_row, 1, 0, block.rows * channels_},
                   places);
  const std::int64_t offset = block.first_row * channels_ + block.first_channel;
  const RowParams params = row_.from(block.first_channel);
  with_residual(places.residual, places.residual_dtype, offset, [&](const auto* r) {
    if (format_.is_signed) {
      requantize_rows(block, r, params, reinterpret_cast<std::int8_t*>(places.out) + offset, channels_);
    } else {
      requantize_rows(block, r, params, reinterpret_cast<std::uint8_t*>(places.out) + offset, channels_);
    }
  });
}

Tensor requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params) {
  Tensor out =
      Tensor::empty(accumulators.shape(), params.format.is_signed ? DType::s8 : DType::u8, params.format);
  requantize(accumulators, residual, params, out);
  return out;
}

void requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params, Tensor& out) {
  Requantizer{params, accumulators.dim(accumulators.rank() - 1)}(accumulators, residual, out);
}

}  // namespace faq::kernels
