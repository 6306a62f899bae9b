#include "core/kernels/quad_plan.h"

#include <algorithm>
#include <utility>

#include "core/division.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t max_channels = 64;  ///< of the input, where a run is a row of the filter; of a block

}  // namespace

QuadPlan::QuadPlan(const Shape& weights, const ConvGeometry& geometry, const QuadTileSet& tiles)
    : out_channels(weights[0]),
      in_channels(weights[1]),
      height(weights[2]),
      width(weights[3]),
      images(tiles.images),
      pixels(tiles.pixels) {
  const bool is_row = in_channels <= max_channels && width > 1 && geometry.dilation.width == 1;
  const std::int64_t run = is_row ? width * in_channels : std::min(in_channels, max_channels);
  const std::int64_t of_run = divided_up(run, quad_lanes);
  const QuadTileShape shape = tiles.shape(of_run, out_channels);
  block_channels = is_row ? in_channels : std::min(in_channels, shape.vectors * quad_lanes);
  blocks = divided_up(in_channels, block_channels);
  columns = is_row ? 1 : width;
  vectors = shape.vectors;
  outputs = shape.outputs;
  pieces = is_row ? divided_up(of_run, vectors) : 1;
  output_blocks = divided_up(out_channels, outputs);
}

QuadPlan::Tile QuadPlan::tile(std::int64_t number) const {
  Tile tile{};
  for (auto [part, count] : {std::pair(&tile.piece, pieces), std::pair(&tile.column, columns),
                             std::pair(&tile.row, height), std::pair(&tile.output_block, output_blocks)}) {
    *part = number % count;
    number /= count;
  }
  tile.block = number;
  return tile;
}

void QuadPlan::advance(Tile& tile) const {
  for (auto [part, count] : {std::pair(&tile.piece, pieces), std::pair(&tile.column, columns),
                             std::pair(&tile.row, height), std::pair(&tile.output_block, output_blocks)}) {
    if (++*part < count) return;
    *part = 0;
  }
  ++tile.block;
}

std::int64_t QuadPlan::channels_of(std::int64_t block) const {
  return std::min(block_channels, in_channels - block * block_channels);
}

int QuadPlan::vectors_of(std::int64_t block) const {
  if (blocks == 1) return vectors;
  return static_cast<int>(divided_up(channels_of(block), quad_lanes));
}

}  // namespace faq::kernels
