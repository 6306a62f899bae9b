#include "core/kernels/byte_tiles.h"

#include <algorithm>
#include <iterator>

namespace faq::kernels {
namespace {

template <class X>
void plain_tile(const BytePanels& p) {
  constexpr std::int64_t quad = 4;
  for (std::int64_t row = 0; row < p.rows; ++row) {
    const X* x = static_cast<const X*>(p.x) + row * p.stride;
    for (std::int64_t o = 0; o < p.blocks * byte_block_outputs; ++o) {
      const std::int8_t* w = p.weights + o / byte_block_outputs * p.depth * byte_depth * byte_block_outputs +
                             o % byte_block_outputs * quad;
      std::int32_t sum = 0;
      for (std::int64_t piece = 0; piece < p.depth; ++piece) {
        for (std::int64_t i = 0; i < byte_depth; ++i)
          sum += x[p.offsets[piece] + i] *
                 w[(piece * byte_depth + i) / quad * byte_block_outputs * quad + i % quad];
      }
      p.sums[row * p.sums_stride + o] = sum;
    }
  }
}

}  // namespace

const std::vector<ByteTiles>& byte_tile_sets() {
  static const std::vector<ByteTiles> sets = [] {
    std::vector<ByteTiles> all = amx_byte_tile_sets();
    std::ranges::copy(avx2_byte_tile_sets(), std::back_inserter(all));
    all.push_back({.name = "plain",
                   .runs = true,
                   .allowed = true,
                   .pays = false,
                   .adds_pairs = false,
                   .least_taps = 0,
                   .copy_cost = 0,
                   .of_unsigned = plain_tile<std::uint8_t>,
                   .of_signed = plain_tile<std::int8_t>,
                   .enter = [] {},
                   .leave = [] {}});
    return all;
  }();
  return sets;
}

const ByteTiles* byte_tiles() {
  static const ByteTiles* const fastest = [] {
    const auto& sets = byte_tile_sets();
    const auto found =
        std::ranges::find_if(sets, [](const ByteTiles& set) { return set.runs && set.allowed && set.pays; });
    return found == sets.end() ? nullptr : &*found;
  }();
  return fastest;
}

}  // namespace faq::kernels
