// How QuadGradient and TiledGradient divide the weights of a convolution into tiles. Included by core/kernels
// only.
#pragma once

#include <cstdint>

#include "core/kernels/conv_geometry.h"
#include "core/kernels/quad_tiles.h"

namespace faq::kernels {

/// How the weights are divided into tiles (quad_tiles.h).
///
/// A tile is 16·vectors values of a run of the input, times some outputs; the tiles of the CPU say how many.
/// With up to 64 channels a run is a whole row of the filter, kernel width × channels, which are side by side
/// in the input. With more channels (or holes between the columns, or one column) it is one column of the
/// filter and as many channels as a tile takes.
struct QuadPlan {
  QuadPlan(const Shape& weights, const ConvGeometry& geometry, const QuadTileSet& tiles);

  struct Tile {
    std::int64_t block = 0, output_block = 0, row = 0, column = 0, piece = 0;
  };
  /// A cell: a block of channels and a block of outputs, with all taps.
  std::int64_t cells() const { return blocks * output_blocks; }
  std::int64_t cell(std::int64_t block, std::int64_t output_block) const {
    return block * output_blocks + output_block;
  }
  std::int64_t tiles_of_cell() const { return height * columns * pieces; }
  std::int64_t tiles() const { return cells() * tiles_of_cell(); }
  /// The tiles of a cell follow each other, cell after cell.
  Tile tile(std::int64_t number) const;
  /// Makes it the next tile.
  void advance(Tile& tile) const;
  /// Channels of a block; the last one may have fewer.
  std::int64_t channels_of(std::int64_t block) const;
  /// Vectors of the tiles of a block.
  int vectors_of(std::int64_t block) const;
  /// Sums of a tile.
  std::int64_t sums() const { return outputs * vectors * quad_lanes; }

  std::int64_t out_channels, in_channels, height, width;
  std::int64_t block_channels, blocks, output_blocks;
  std::int64_t columns;  ///< of the filter that have tiles of their own; 1 if a run has all
  std::int64_t pieces;   ///< of a run
  int vectors, outputs;
  std::int64_t images;  ///< of a quad
  std::int64_t pixels;  ///< that a tile takes at a time
};

}  // namespace faq::kernels
