#include "core/kernels/quad_plan.h"

#include <algorithm>
#include <utility>

namespace faq::kernels {
namespace {

constexpr std::int64_t max_block_channels = 64;

std::int64_t divided_up(std::int64_t n, std::int64_t by) { return (n + by - 1) / by; }

}  // namespace

QuadPlan::QuadPlan(const Shape& weights, const ConvGeometry& geometry, const QuadTiles& tiles)
    : out_channels(weights[0]),
      in_channels(weights[1]),
      height(weights[2]),
      width(weights[3]),
      pixels(tiles.pixels) {
  block_channels = std::min(in_channels, max_block_channels);
  blocks = divided_up(in_channels, block_channels);
  const bool is_joined = blocks == 1 && geometry.dilation.width == 1;
  columns = is_joined ? 1 : width;
  const std::int64_t run = is_joined ? width * in_channels : block_channels;
  const std::int64_t of_run = divided_up(run, quad_lanes);
  const QuadTileShape shape = tiles.shape(of_run, out_channels);
  vectors = shape.vectors;
  outputs = shape.outputs;
  pieces = divided_up(of_run, vectors);
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
  if (blocks == 1 || pieces > 1) return vectors;
  return static_cast<int>(divided_up(channels_of(block), quad_lanes));
}

}  // namespace faq::kernels
