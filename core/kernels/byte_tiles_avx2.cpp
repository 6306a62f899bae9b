// Without VNNI: pairs of products u8·s8 are added in 16 bits. Where those of several quads fit, they are
// added there, too; else each pair is added in 32 bits. A pair always fits if its bytes of x are at most 127;
// larger ones, which are few, are divided: what they have beyond 127 is multiplied apart. Signed bytes of x
// are 128 at most, and their signs are given to the weights.
#include <immintrin.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/cpu.h"
#include "core/division.h"
#include "core/kernels/byte_tiles.h"
#include "core/kernels/byte_weights.h"

namespace faq::kernels {
namespace {

#define FAQ_AVX2 __attribute__((target("avx2")))
#define FAQ_AVX2_INLINE __attribute__((target("avx2"), always_inline))

constexpr std::int64_t quad = 4, quad_bytes = byte_block_outputs * quad;
constexpr std::int64_t quads_of_piece = byte_depth / quad;
constexpr std::int64_t block_bytes = byte_depth * byte_block_outputs;  ///< of a piece

template <class T>
FAQ_AVX2_INLINE inline __m256i load(const T* p) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
}

// The quad eight times.
FAQ_AVX2_INLINE inline __m256i quads_of(const std::uint8_t* x) {
  std::int32_t bytes;
  std::memcpy(&bytes, x, sizeof bytes);
  return _mm256_set1_epi32(bytes);
}

FAQ_AVX2_INLINE inline __m256i in_32_bits(__m256i pairs) {
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}

// Bytes of x, and how their products are added.
enum class Bytes {
  small,    ///< in 16 bits
  medium,   ///< in 32 bits
  clipped,  ///< the same, up to 127
  with_signs,
};
constexpr int largest_clipped = 127;
static_assert(2 * largest_clipped * 128 < (1 << 15));

// Adds the products of a quad and the weights of eight outputs. Written out, because GCC multiplies for all
// rows first, and has no registers left for the sums.
template <Bytes bytes>
FAQ_AVX2_INLINE inline void add_products(__m256i x, const std::int8_t* w, __m256i& sums) {
  const auto& weights = *reinterpret_cast<const __m256i_u*>(w);
  __m256i products;
  if constexpr (bytes == Bytes::small) {
    asm("vpmaddubsw %3, %2, %1\n\tvpaddw %1, %0, %0" : "+x"(sums), "=&x"(products) : "x"(x), "m"(weights));
  } else if constexpr (bytes == Bytes::with_signs) {
    asm("vpsignb %2, %4, %1\n\tvpmaddubsw %1, %3, %1\n\tvpmaddwd %5, %1, %1\n\tvpaddd %1, %0, %0"
        : "+x"(sums), "=&x"(products)
        : "x"(x), "x"(_mm256_abs_epi8(x)), "x"(load(w)), "x"(_mm256_set1_epi16(1)));
  } else {
    asm("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0"
        : "+x"(sums), "=&x"(products)
        : "x"(x), "m"(weights), "x"(_mm256_set1_epi16(1)));
  }
}

// Of a row and the outputs of one or two blocks: sums of 32 bits, or twice as many of 16. They stay in
// registers only if every index is a constant from the start.
template <int blocks>
struct Sums {
  __m256i eights[2 * blocks];

  FAQ_AVX2_INLINE static Sums zeros() {
    const __m256i zero = _mm256_setzero_si256();
    if constexpr (blocks == 1) return {{zero, zero}};
    if constexpr (blocks == 2) return {{zero, zero, zero, zero}};
  }
  FAQ_AVX2_INLINE static Sums loaded(const std::int32_t* p) {
    if constexpr (blocks == 1) return {{load(p), load(p + 8)}};
    if constexpr (blocks == 2) return {{load(p), load(p + 8), load(p + 16), load(p + 24)}};
  }
  template <int i = 0>
  FAQ_AVX2_INLINE void store(std::int32_t* p) const {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p + 8 * i), eights[i]);
    if constexpr (i + 1 < 2 * blocks) store<i + 1>(p);
  }
  // Adds them to sums of 32 bits. Precondition: they have 16.
  template <int i = 0>
  FAQ_AVX2_INLINE void add_to(std::int32_t* p) const {
    auto* place = reinterpret_cast<__m256i*>(p + 8 * i);
    _mm256_storeu_si256(place, _mm256_add_epi32(_mm256_loadu_si256(place), in_32_bits(eights[i])));
    if constexpr (i + 1 < 2 * blocks) add_to<i + 1>(p);
  }
  // second: bytes from the weights of the first block to those of the second.
  template <Bytes bytes>
  FAQ_AVX2_INLINE void add(__m256i x, const std::int8_t* w, std::int64_t second) {
    if constexpr (bytes == Bytes::clipped) x = _mm256_min_epu8(x, _mm256_set1_epi8(largest_clipped));
    add_products<bytes>(x, w, eights[0]);
    add_products<bytes>(x, w + 32, eights[1]);
    if constexpr (blocks == 2) {
      add_products<bytes>(x, w + second, eights[2]);
      add_products<bytes>(x, w + second + 32, eights[3]);
    }
  }
};

// The rows are counted by a parameter pack: sums whose index is a constant from the start stay in registers.
template <int blocks, std::size_t... row>
struct Rows {
  static constexpr std::size_t count = sizeof...(row);
  using RowSums = Sums<blocks>;

  // What the rows have in common.
  struct Place {
    const BytePanels& p;
    const std::uint8_t* x;
    const std::int8_t* w;
    std::int64_t second;  ///< block of weights
    std::int32_t* sums;

    std::int32_t* of_row(std::size_t i) const { return sums + static_cast<std::int64_t>(i) * p.sums_stride; }
  };

  // Adds the products of so many quads that lie side by side.
  template <Bytes bytes>
  FAQ_AVX2_INLINE static void add(const std::uint8_t* x, std::int64_t stride, const std::int8_t* w,
                                  std::int64_t second, std::int64_t quads, RowSums (&sums)[count]) {
#pragma GCC unroll 4
    for (std::int64_t i = 0; i < quads; ++i) {
      (sums[row].template add<bytes>(quads_of(x + static_cast<std::int64_t>(row) * stride + i * quad),
                                     w + i * quad_bytes, second),
       ...);
    }
  }

  // Sums of quads in 16 bits, as many as fit, are added to those in memory.
  FAQ_AVX2 static void add_together(const Place& at) {
    const BytePanels& p = at.p;
    const std::int64_t pieces = std::max<std::int64_t>(1, p.quads_together / quads_of_piece);
    const auto quads = static_cast<std::int64_t>(
        std::bit_floor(static_cast<std::uint64_t>(std::min(p.quads_together, quads_of_piece))));
    (RowSums::zeros().store(at.of_row(row)), ...);
    for (std::int64_t first = 0; first < p.depth; first += pieces) {
      const std::int64_t past = std::min(first + pieces, p.depth);
      const std::int64_t used = pieces > 1 ? quads_of_piece : p.quads[first];
      for (std::int64_t from = 0; from < used; from += quads) {
        RowSums pairs[] = {(static_cast<void>(row), RowSums::zeros())...};
        for (std::int64_t i = first; i < past; ++i)
          add<Bytes::small>(at.x + p.offsets[i] + from * quad, p.stride,
                            at.w + i * block_bytes + from * quad_bytes, at.second,
                            std::min(quads, p.quads[i] - from), pairs);
        (pairs[row].add_to(at.of_row(row)), ...);
      }
    }
  }

  // Each quad is added in 32 bits.
  template <Bytes bytes>
  FAQ_AVX2 static void add_singly(const Place& at) {
    const BytePanels& p = at.p;
    RowSums sums[] = {(static_cast<void>(row), RowSums::zeros())...};
    for (std::int64_t i = 0; i < p.depth; ++i)
      add<bytes>(at.x + p.offsets[i], p.stride, at.w + i * block_bytes, at.second, p.quads[i], sums);
    (sums[row].store(at.of_row(row)), ...);
  }

  // Adds what bytes of x have beyond those that are clipped.
  FAQ_AVX2 static void add_clipped(const Place& at) {
    (add_beyond(at, at.x + static_cast<std::int64_t>(row) * at.p.stride, at.of_row(row)), ...);
  }
  FAQ_AVX2 static void add_beyond(const Place& at, const std::uint8_t* x, std::int32_t* to) {
    const BytePanels& p = at.p;
    RowSums sums = RowSums::loaded(to);
    for (std::int64_t i = 0; i < p.depth; ++i) {
      const std::uint8_t* piece = x + p.offsets[i];
      for (std::uint64_t large = large_bytes(piece); large != 0;) {
        const std::int64_t number = std::countr_zero(large) / quad;
        large &= ~(std::uint64_t{15} << number * quad);
        const __m256i beyond =
            _mm256_subs_epu8(quads_of(piece + number * quad), _mm256_set1_epi8(largest_clipped));
        sums.template add<Bytes::medium>(beyond, at.w + i * block_bytes + number * quad_bytes, at.second);
      }
    }
    sums.store(to);
  }
  // A bit for each byte of a piece: 1 where it is larger than those that are clipped.
  FAQ_AVX2_INLINE static std::uint64_t large_bytes(const std::uint8_t* piece) {
    const auto low = static_cast<std::uint32_t>(_mm256_movemask_epi8(load(piece)));
    const auto high = static_cast<std::uint32_t>(_mm256_movemask_epi8(load(piece + 32)));
    return std::uint64_t{high} << 32 | low;
  }

  template <bool is_signed>
  FAQ_AVX2 static void tile(const BytePanels& p, std::int64_t first, std::int64_t block) {
    constexpr std::int64_t least_together = 8;  // of fewer, sums are moved as often as products are made
    const Place at{p, static_cast<const std::uint8_t*>(p.x) + first * p.stride,
                   p.weights + block * p.depth * block_bytes, p.depth * block_bytes,
                   p.sums + first * p.sums_stride + block * byte_block_outputs};
    if (is_signed) {
      add_singly<Bytes::with_signs>(at);
    } else if (p.quads_together >= least_together) {
      add_together(at);
    } else if (p.quads_together > 0) {
      add_singly<Bytes::medium>(at);
    } else {
      add_singly<Bytes::clipped>(at);
      add_clipped(at);
    }
  }
};

template <bool is_signed, int blocks>
void in_rows(const BytePanels& p, std::int64_t block) {
  constexpr std::int64_t most = (is_signed ? 4 : 6) / blocks;  // for which the 16 registers suffice
  using Tile = void (*)(const BytePanels&, std::int64_t first, std::int64_t block);
  constexpr auto of = []<std::size_t... row>(std::index_sequence<row...>)->Tile {
    return &Rows<blocks, row...>::template tile<is_signed>;
  };
  constexpr auto tiles = [of]<std::size_t... i>(std::index_sequence<i...>) {
    return std::array{of(std::make_index_sequence<i + 1>())...};
  }
  (std::make_index_sequence<most>());
  const std::int64_t groups = divided_up(p.rows, most);
  for (std::int64_t i = 0; i < groups; ++i) {
    const std::int64_t first = p.rows * i / groups, past = p.rows * (i + 1) / groups;
    tiles[past - first - 1](p, first, block);
  }
}

template <bool is_signed>
void avx2_tile(const BytePanels& p) {
  // There is no 128 for a sign to be given to.
  if (is_signed && p.has_least) return byte_tile_sets().back().of_signed(p);
  std::int64_t block = 0;
  for (; block + 2 <= p.blocks; block += 2) in_rows<is_signed, 2>(p, block);
  if (block < p.blocks) in_rows<is_signed, 1>(p, block);
}

}  // namespace

std::vector<ByteTiles> avx2_byte_tile_sets() {
  // With AVX-512 oneDNN's convolutions take twice as much at a time.
  const bool is_widest = std::string_view(isa_name()) == "AVX2";
  return {{.name = "AVX2",
           .runs = __builtin_cpu_supports("avx2") != 0,
           .allowed = has_avx2(),
           .pays = is_widest,
           .adds_pairs = true,
           .least_taps = 256,
           .copy_cost = 0.15f,
           .of_unsigned = avx2_tile<false>,
           .of_signed = avx2_tile<true>,
           .enter = [] {},
           .leave = [] {}}};
}

}  // namespace faq::kernels
