#include <cpuid.h>
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/cpu.h"
#include "core/kernels/quad_tiles.h"

namespace faq::kernels {
namespace {

// Not every compiler's __builtin_cpu_supports() knows this name. Where there is AVX2, the system saves the
// registers.
bool cpu_has_avx_vnni() {
  unsigned eax = 0, ebx = 0, ecx = 0, edx = 0;
  return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax >> 4 & 1) != 0;
}

inline std::int32_t quad_at(const std::int8_t* p) {
  std::int32_t quad;
  std::memcpy(&quad, p, sizeof quad);
  return quad;
}

// 512 bits: a register holds 16 values of x of four images, and an accumulator their 16 sums for one output.
// 24 accumulators stay in registers (there are 32) for all pixels: if the loops over them are unrolled early,
// and if there is one loop over the pixels of all lines, between which GCC would store them.
struct Avx512Vnni {
#define FAQ_AVX512_VNNI __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni")))
  template <int vectors, int outputs>
  FAQ_AVX512_VNNI static void tile(const QuadPixels<std::int32_t>& r) {
    __m512i sum[outputs][vectors];
#pragma GCC unroll 24
    for (int o = 0; o < outputs; ++o) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        sum[o][v] =
            r.adds ? _mm512_loadu_si512(r.sums + (o * vectors + v) * quad_lanes) : _mm512_setzero_si512();
    }
    const std::int8_t* dy = r.dy;
    const std::int64_t* line = r.lines;
    std::int64_t offset = *line, left = r.width;  // of the pixel, and the pixels up to the end of its line
    for (std::int64_t i = 0; i < r.count * r.width; ++i, dy += 4 * outputs) {
      const std::uint8_t* x = r.x + offset;
      __m512i inputs[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) inputs[v] = _mm512_loadu_si512(x + v * 64);
#pragma GCC unroll 24
      for (int o = 0; o < outputs; ++o) {
        const __m512i gradient = _mm512_set1_epi32(quad_at(dy + 4 * o));
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[o][v] = _mm512_dpbusd_epi32(sum[o][v], inputs[v], gradient);
      }
      // The next pixel, without a branch, which would be predicted wrongly at the end of short lines.
      const std::int64_t ends = -static_cast<std::int64_t>(--left == 0);  // all bits or none
      const std::int64_t along = offset + r.pixel;
      line -= ends;
      offset = along ^ ((along ^ *line) & ends);
      left += r.width & ends;
    }
#pragma GCC unroll 24
    for (int o = 0; o < outputs; ++o) {
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v)
        _mm512_storeu_si512(r.sums + (o * vectors + v) * quad_lanes, sum[o][v]);
    }
  }
};

// 256 bits: with 16 registers a tile is worked on in parts of one vector and a few outputs.
// `part<outputs>(pixels, x, first output, outputs of the tile, sums of the part, sums of an output)`.
template <class Part, int vectors, int outputs>
void in_parts(const QuadPixels<std::int32_t>& r) {
  constexpr int together = outputs % Part::most_outputs == 0 ? Part::most_outputs : Part::fewer_outputs;
  static_assert(outputs % together == 0);
  if (!r.adds) std::fill_n(r.sums, outputs * vectors * quad_lanes, 0);
  for (int v = 0; v < vectors; ++v) {
    for (int o = 0; o < outputs; o += together)
      Part::template part<together>(r, r.x + v * 64, o, outputs, r.sums + (o * vectors + v) * quad_lanes,
                                    vectors * quad_lanes);
  }
}

struct AvxVnni {
#define FAQ_AVX_VNNI __attribute__((target("avx2,avxvnni")))
  static constexpr int most_outputs = 6, fewer_outputs = 4;

  template <int outputs>
  FAQ_AVX_VNNI static void part(const QuadPixels<std::int32_t>& r, const std::uint8_t* first, int output,
                                int all_outputs, std::int32_t* sums, std::int64_t stride) {
    __m256i low[outputs], high[outputs];
    for (int o = 0; o < outputs; ++o) {
      low[o] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + o * stride));
      high[o] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(sums + o * stride + 8));
    }
    const std::int8_t* dy = r.dy + 4 * output;
    for (std::int64_t line = 0; line < r.count; ++line) {
      const std::uint8_t* x = first + r.lines[line];
      for (std::int64_t pixel = 0; pixel < r.width; ++pixel, x += r.pixel, dy += 4 * all_outputs) {
        const __m256i x_low = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
        const __m256i x_high = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x + 32));
        for (int o = 0; o < outputs; ++o) {
          const __m256i gradient = _mm256_set1_epi32(quad_at(dy + 4 * o));
          low[o] = _mm256_dpbusd_avx_epi32(low[o], x_low, gradient);
          high[o] = _mm256_dpbusd_avx_epi32(high[o], x_high, gradient);
        }
      }
    }
    for (int o = 0; o < outputs; ++o) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + o * stride), low[o]);
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(sums + o * stride + 8), high[o]);
    }
  }
};

// Without VNNI: products of the low and of the high four bits of x, whose sums fit into 16 bits for a few
// pixels. A register holds eight values of x.
struct Avx2 {
#define FAQ_AVX2 __attribute__((target("avx2")))
  static constexpr int most_outputs = 6, fewer_outputs = 4;
  static constexpr std::int64_t most_pixels = 8;
  static_assert(2 * most_pixels * 15 * 128 < (1 << 15));

  // A pixel, and how many are left up to the end of its line.
  struct Pixel {
    const std::int8_t* dy;
    const std::int64_t* line;
    std::int64_t left;
  };

  struct Bytes {
    __m256i low, high;  // halves of a vector
  };

  // Four bits of each byte.
  template <bool upper>
  FAQ_AVX2 static __m256i nibbles(const std::uint8_t* x) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    return _mm256_and_si256(upper ? _mm256_srli_epi16(bytes, 4) : bytes, _mm256_set1_epi8(15));
  }

  // Sums of 16 bits, one for each pair of images.
  FAQ_AVX2 static void add_products(const Bytes& x, const std::int8_t* dy, Bytes& sum) {
    const __m256i gradient = _mm256_set1_epi32(quad_at(dy));
    sum.low = _mm256_add_epi16(sum.low, _mm256_maddubs_epi16(x.low, gradient));
    sum.high = _mm256_add_epi16(sum.high, _mm256_maddubs_epi16(x.high, gradient));
    // Else GCC multiplies for all outputs first, and has no registers left for the sums.
    asm("" : "+x"(sum.low), "+x"(sum.high));
  }

  FAQ_AVX2 static void add_pairs(__m256i sum, __m256i weight, std::int32_t* sums) {
    auto* place = reinterpret_cast<__m256i*>(sums);
    _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), _mm256_madd_epi16(sum, weight)));
  }

  // Adds `count` pixels, with four bits of each byte. The outputs are counted by a parameter pack: sums whose
  // index is a constant from the start stay in registers.
  template <bool upper, std::size_t... o>
  FAQ_AVX2 static Pixel add(const QuadPixels<std::int32_t>& r, const std::uint8_t* first, int all_outputs,
                            Pixel at, std::int64_t count, std::int32_t* sums, std::int64_t stride,
                            std::index_sequence<o...>) {
    const __m256i zeros = _mm256_setzero_si256();
    Bytes sum[] = {(static_cast<void>(o), Bytes{zeros, zeros})...};
    while (count > 0) {
      const std::int64_t run = std::min(count, at.left);
      const std::uint8_t* x = first + *at.line + (r.width - at.left) * r.pixel;
      for (const std::int8_t* past = at.dy + run * 4 * all_outputs; at.dy != past; x += r.pixel) {
        const Bytes inputs{nibbles<upper>(x), nibbles<upper>(x + 32)};
        (add_products(inputs, at.dy + 4 * o, sum[o]), ...);
        at.dy += 4 * all_outputs;
      }
      count -= run;
      at.left -= run;
      if (at.left == 0) ++at.line, at.left = r.width;
    }
    const __m256i weight = _mm256_set1_epi16(upper ? 16 : 1);
    (add_pairs(sum[o].low, weight, sums + o * stride), ...);
    (add_pairs(sum[o].high, weight, sums + o * stride + 8), ...);
    return at;
  }

  template <int outputs>
  FAQ_AVX2 static void part(const QuadPixels<std::int32_t>& r, const std::uint8_t* first, int output,
                            int all_outputs, std::int32_t* sums, std::int64_t stride) {
    constexpr auto of_outputs = std::make_index_sequence<outputs>();
    Pixel at{.dy = r.dy + 4 * output, .line = r.lines, .left = r.width};
    for (std::int64_t left = r.count * r.width; left > 0; left -= most_pixels) {
      const std::int64_t count = std::min(left, most_pixels);
      const Pixel past = add<false>(r, first, all_outputs, at, count, sums, stride, of_outputs);
      if (!r.are_nibbles) add<true>(r, first, all_outputs, at, count, sums, stride, of_outputs);
      at = past;
    }
  }
};

// The function of that shape, of those that `of(constants)` returns.
template <class Of, std::size_t... i>
QuadTile<std::int32_t> chosen(QuadTileShape shape, Of of, std::index_sequence<i...>) {
  const std::array<QuadTile<std::int32_t>, sizeof...(i)> tiles{
      of(std::integral_constant<std::size_t, i>())...};
  return tiles[quad_tile_index(pixel_tile_shapes, shape)];
}
constexpr auto all_shapes = std::make_index_sequence<std::size(pixel_tile_shapes)>();

QuadTile<std::int32_t> avx512_vnni_tile(QuadTileShape shape) {
  return chosen(
      shape,
      [](auto i) -> QuadTile<std::int32_t> {
        return &Avx512Vnni::tile<pixel_tile_shapes[i].vectors, pixel_tile_shapes[i].outputs>;
      },
      all_shapes);
}

template <class Part>
QuadTile<std::int32_t> tile_in_parts(QuadTileShape shape) {
  return chosen(
      shape,
      [](auto i) -> QuadTile<std::int32_t> {
        return &in_parts<Part, pixel_tile_shapes[i].vectors, pixel_tile_shapes[i].outputs>;
      },
      all_shapes);
}

}  // namespace

std::vector<QuadTiles> x86_quad_tile_sets() {
  const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  const bool avx512 = __builtin_cpu_supports("avx512bw") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
                      __builtin_cpu_supports("avx512vnni") != 0;
  const bool avx_vnni = avx2 && cpu_has_avx_vnni();
  return {amx_quad_tiles(),
          by_pixels({.name = "AVX-512 VNNI", .runs = avx512, .allowed = has_avx512_vnni()}, avx512_vnni_tile),
          by_pixels({.name = "AVX-VNNI", .runs = avx_vnni, .allowed = has_vnni()}, tile_in_parts<AvxVnni>),
          by_pixels({.name = "AVX2", .runs = avx2, .allowed = has_avx2(), .wants_nibbles = true},
                    tile_in_parts<Avx2>)};
}

}  // namespace faq::kernels
