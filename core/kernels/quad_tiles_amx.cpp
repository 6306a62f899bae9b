#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/cpu.h"
#include "core/division.h"
#include "core/kernels/amx.h"
#include "core/kernels/quad_tiles.h"

namespace faq::kernels {
namespace {

// One instruction adds, for 16 outputs and 16 values of x, the products of 16 pixels and the images of their
// quads: a row of the gradient's register has an output's quads of all these pixels, a row of the input's
// register has a pixel's quads of all these values, as they lie in memory.

constexpr std::int64_t tile_rows = amx::rows;  ///< outputs of one register of tiles, and pixels of another
constexpr std::int64_t tile_bytes = amx::row_bytes;
constexpr std::int64_t pixels = 16;  ///< that are multiplied at a time

// sums += s8 · u8, or bf16 · bf16
template <class Sum, int sums, int gradient, int input>
FAQ_AMX inline void multiply_tiles() {
  if constexpr (std::is_same_v<Sum, float>) {
    asm volatile("tdpbf16ps %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(input), "i"(gradient), "i"(sums));
  } else {
    asm volatile("tdpbsud %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(input), "i"(gradient), "i"(sums));
  }
}

// Registers: the sums, then the gradient of 16 outputs each, then the input in what is left.
template <class Sum, int vectors, int parts>
struct AmxTile {
  static constexpr int sums = vectors * parts, first_gradient = sums, first_input = first_gradient + parts;
  static constexpr int inputs = 8 - first_input;
  static_assert(inputs > 0);

  static constexpr int outputs = parts * tile_rows;
  static constexpr std::int64_t sum_bytes = vectors * tile_bytes;  ///< of an output

  template <int i = 0>
  FAQ_AMX static void load_sums(const Sum* from) {
    if constexpr (i < sums) {
      amx::load<i>(from + place(i), sum_bytes);
      load_sums<i + 1>(from);
    }
  }
  template <int i = 0>
  FAQ_AMX static void store_sums(Sum* to) {
    if constexpr (i < sums) {
      amx::store<i>(to + place(i), sum_bytes);
      store_sums<i + 1>(to);
    }
  }
  template <int part = 0>
  FAQ_AMX static void load_gradients(const std::int8_t* dy) {
    if constexpr (part < parts) {
      amx::load<first_gradient + part>(dy + part * tile_rows * tile_bytes, tile_bytes);
      load_gradients<part + 1>(dy);
    }
  }
  template <int vector, int part = 0>
  FAQ_AMX static void multiply_parts() {
    if constexpr (part < parts) {
      multiply_tiles<Sum, part * vectors + vector, first_gradient + part, first_input + vector % inputs>();
      multiply_parts<vector, part + 1>();
    }
  }
  template <int vector = 0>
  FAQ_AMX static void multiply(const std::uint8_t* x, std::int64_t pixel) {
    if constexpr (vector < vectors) {
      amx::load<first_input + vector % inputs>(x + vector * tile_bytes, pixel);
      multiply_parts<vector>();
      multiply<vector + 1>(x, pixel);
    }
  }

  FAQ_AMX static void tile(const QuadPixels<Sum>& p) {
    if (p.adds)
      load_sums(p.sums);
    else
      amx::clear_first<sums>();
    const std::int8_t* dy = p.dy;
    for (std::int64_t line = 0; line < p.count; ++line) {
      const std::uint8_t* x = p.x + p.lines[line];
      for (std::int64_t i = 0; i < p.width; i += pixels, x += pixels * p.pixel, dy += outputs * tile_bytes) {
        load_gradients(dy);
        multiply(x, p.pixel);
      }
    }
    store_sums(p.sums);
  }

 private:
  // Where a register of sums is among those of the tile.
  static constexpr std::int64_t place(int i) {
    return (i / vectors * tile_rows * vectors + i % vectors) * quad_lanes;
  }
};

constexpr QuadTileShape shapes[] = {{1, 16}, {2, 16}, {3, 16}, {4, 16}, {1, 32}, {2, 32}};

QuadTileShape amx_shape(std::int64_t vectors, std::int64_t outputs) {
  // Tiles of 32 outputs read least. Of few outputs they would multiply too many that there are not.
  const std::int64_t parts = divided_up(outputs, tile_rows);
  if (parts % 2 == 1 && parts <= 5) return {even_vectors(vectors, 4), tile_rows};
  return {even_vectors(vectors, 2), 2 * tile_rows};
}

template <class Sum>
QuadTile<Sum> amx_tile(QuadTileShape shape) {
  constexpr auto tiles = []<std::size_t... i>(std::index_sequence<i...>) {
    return std::array{&AmxTile<Sum, shapes[i].vectors, shapes[i].outputs / tile_rows>::tile...};
  }
  (std::make_index_sequence<std::size(shapes)>());
  return tiles[quad_tile_index(shapes, shape)];
}

// Transposes 16 × 16 values: exchanges blocks of 8, 4, 2 and 1 between rows as far apart.
__attribute__((target("avx512f"))) void transpose(const std::uint32_t* in, std::int64_t stride,
                                                  unsigned columns, std::uint32_t* out) {
  __m512i rows[16];
  const auto mask = static_cast<__mmask16>((1u << columns) - 1);
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) rows[i] = _mm512_maskz_loadu_epi32(mask, in + i * stride);
#pragma GCC unroll 4
  for (int distance = 8; distance > 0; distance /= 2) {
    const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i bit = _mm512_and_epi32(lane, _mm512_set1_epi32(distance));
    const __mmask16 upper = _mm512_test_epi32_mask(bit, bit);
    // Of two rows as 32 values: lanes of the first, and those `distance` before in the second.
    const __m512i low = _mm512_mask_add_epi32(lane, upper, lane, _mm512_set1_epi32(16 - distance));
    const __m512i high = _mm512_mask_add_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(distance)), upper,
                                               lane, _mm512_set1_epi32(16));
#pragma GCC unroll 16
    for (int i = 0; i < 16; ++i) {
      if ((i & distance) != 0) continue;
      const __m512i first = rows[i], second = rows[i + distance];
      rows[i] = _mm512_permutex2var_epi32(first, low, second);
      rows[i + distance] = _mm512_permutex2var_epi32(first, high, second);
    }
  }
#pragma GCC unroll 16
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(out + 16 * i, rows[i]);
}

void pack_transposed(const QuadBlock& block) {
  for (std::int64_t pixel = 0; pixel < block.width; pixel += pixels) {
    for (std::int64_t o = 0; o < block.outputs; o += tile_rows) {
      std::uint32_t* out = block.out + (pixel * block.outputs + o * pixels);
      if (o >= block.present) {
        std::memset(out, 0, tile_rows * tile_bytes);
      } else {
        const auto columns = static_cast<unsigned>(std::min(block.present - o, tile_rows));
        transpose(block.dy + pixel * block.stride + o, block.stride, columns, out);
      }
    }
  }
}

QuadTileSet amx_tile_set(std::int64_t images) {
  const bool allowed = has_amx();
  static const bool runs = allowed && amx::may_use_registers();
  return {.name = "AMX",
          .runs = runs,
          .allowed = allowed,
          .images = images,
          .pixels = pixels,
          .wants_nibbles = false,
          .shape = amx_shape,
          .pack = pack_transposed,
          .enter = amx::enter,
          .leave = amx::leave};
}

}  // namespace

QuadTiles amx_quad_tiles() { return {amx_tile_set(4), amx_tile<std::int32_t>}; }

std::vector<PairTiles> amx_pair_tile_sets() { return {{amx_tile_set(2), amx_tile<float>}}; }

}  // namespace faq::kernels
