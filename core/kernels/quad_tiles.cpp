#include "core/kernels/quad_tiles.h"

#include <algorithm>
#include <array>
#include <utility>

#include "core/error.h"

namespace faq::kernels {
namespace {

template <int vectors, int outputs>
void plain_tile(const QuadRows& r) {
  constexpr int length = vectors * quad_lanes;
  const std::int8_t* dy = r.dy;
  for (std::int64_t row = 0; row < r.count; ++row) {
    const std::uint8_t* x = r.x + r.rows[row];
    for (std::int64_t pixel = 0; pixel < r.width; ++pixel, x += r.pixel, dy += 4 * outputs) {
      for (int o = 0; o < outputs; ++o) {
        for (int i = 0; i < length; ++i) {
          std::int32_t sum = 0;
          for (int image = 0; image < 4; ++image)
            sum += std::int32_t{x[4 * i + image]} * std::int32_t{dy[4 * o + image]};
          r.sums[o * length + i] += sum;
        }
      }
    }
  }
}

QuadTile plain_quad_tile(QuadTileShape shape) {
  constexpr std::size_t count = std::size(quad_tile_shapes);
  constexpr auto tiles = []<std::size_t... i>(std::index_sequence<i...>) {
    return std::array{&plain_tile<quad_tile_shapes[i].vectors, quad_tile_shapes[i].outputs>...};
  }
  (std::make_index_sequence<count>());
  return tiles[quad_tile_index(shape)];
}

}  // namespace

std::size_t quad_tile_index(QuadTileShape shape) {
  const auto found = std::ranges::find_if(quad_tile_shapes, [&](const QuadTileShape& s) {
    return s.vectors == shape.vectors && s.outputs == shape.outputs;
  });
  check(found != std::end(quad_tile_shapes), ErrorKind::internal, "quads: no tile of ", shape.vectors, "×",
        shape.outputs);
  return static_cast<std::size_t>(found - std::begin(quad_tile_shapes));
}

const std::vector<QuadTiles>& quad_tile_sets() {
  static const std::vector<QuadTiles> sets = [] {
    std::vector<QuadTiles> all = x86_quad_tile_sets();
    all.push_back({"plain", true, true, plain_quad_tile});
    return all;
  }();
  return sets;
}

const QuadTiles& quad_tiles() {
  return *std::ranges::find_if(quad_tile_sets(),
                               [](const QuadTiles& set) { return set.runs && set.allowed; });
}

}  // namespace faq::kernels
