#include <cstdint>

#include "core/cpu.h"
#include "core/kernels/amx.h"
#include "core/kernels/byte_tiles.h"

namespace faq::kernels {
namespace {

// sums += x · weights, of 16 rows of x and 16 outputs.
template <bool is_signed, int sums, int x, int weights>
FAQ_AMX inline void multiply() {
  if constexpr (is_signed)
    asm volatile("tdpbssd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(weights), "i"(x), "i"(sums));
  else
    asm volatile("tdpbusd %%tmm%c0, %%tmm%c1, %%tmm%c2" : : "i"(weights), "i"(x), "i"(sums));
}

// Registers: the sums, then those of x, then those of weights in turns.
template <bool is_signed, int rows, int columns>
struct AmxTile {
  static constexpr int sums = rows * columns, first_x = sums, first_weights = first_x + rows;
  static constexpr int weights = 8 - first_weights;
  static_assert(weights > 0);

  template <int i = 0>
  FAQ_AMX static void store_sums(std::int32_t* to, std::int64_t stride) {
    if constexpr (i < sums) {
      constexpr std::int64_t row = i / columns * amx::rows, column = i % columns * byte_block_outputs;
      amx::store<i>(to + row * stride + column, stride * static_cast<std::int64_t>(sizeof(std::int32_t)));
      store_sums<i + 1>(to, stride);
    }
  }
  template <int row = 0>
  FAQ_AMX static void load_x(const std::uint8_t* x, std::int64_t stride) {
    if constexpr (row < rows) {
      amx::load<first_x + row>(x + row * amx::rows * stride, stride);
      load_x<row + 1>(x, stride);
    }
  }
  template <int column, int row = 0>
  FAQ_AMX static void multiply_rows() {
    if constexpr (row < rows) {
      multiply<is_signed, row * columns + column, first_x + row, first_weights + column % weights>();
      multiply_rows<column, row + 1>();
    }
  }
  template <int column = 0>
  FAQ_AMX static void multiply_columns(const std::int8_t* w, std::int64_t block) {
    if constexpr (column < columns) {
      amx::load<first_weights + column % weights>(w + column * block, amx::row_bytes);
      multiply_rows<column>();
      multiply_columns<column + 1>(w, block);
    }
  }

  FAQ_AMX static void tile(const BytePanels& p, std::int64_t column) {
    constexpr std::int64_t register_bytes = amx::rows * amx::row_bytes;
    const std::int64_t block = p.depth * register_bytes;
    const auto* x = static_cast<const std::uint8_t*>(p.x);
    const std::int8_t* w = p.weights + column * block;
    amx::clear_first<sums>();
    for (std::int64_t i = 0; i < p.depth; ++i, w += register_bytes) {
      load_x(x + p.offsets[i], p.stride);
      multiply_columns(w, block);
    }
    store_sums(p.sums + column * byte_block_outputs, p.sums_stride);
  }
};

// Four registers of sums take the fewest loads.
template <bool is_signed>
FAQ_AMX void amx_tile(const BytePanels& p) {
  if (p.rows > amx::rows) {
    std::int64_t column = 0;
    for (; column + 2 <= p.blocks; column += 2) AmxTile<is_signed, 2, 2>::tile(p, column);
    if (column < p.blocks) AmxTile<is_signed, 2, 1>::tile(p, column);
    return;
  }
  switch (p.blocks) {
    case 1:
      return AmxTile<is_signed, 1, 1>::tile(p, 0);
    case 2:
      return AmxTile<is_signed, 1, 2>::tile(p, 0);
    case 3:
      return AmxTile<is_signed, 1, 3>::tile(p, 0);
    default:
      return AmxTile<is_signed, 1, 4>::tile(p, 0);
  }
}

}  // namespace

std::vector<ByteTiles> amx_byte_tile_sets() {
  const bool allowed = has_amx();
  static const bool runs = allowed && amx::may_use_registers();
  return {{.name = "AMX",
           .runs = runs,
           .allowed = allowed,
           .pays = true,
           .adds_pairs = false,
           .least_taps = 0,
           .copy_cost = 1,
           .of_unsigned = amx_tile<false>,
           .of_signed = amx_tile<true>,
           .enter = amx::enter,
           .leave = amx::leave}};
}

}  // namespace faq::kernels
