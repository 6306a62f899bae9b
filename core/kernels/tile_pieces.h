// How a convolution in tiles is cut into pieces of work (tiled_conv.h).
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/division.h"
#include "core/kernels/byte_tiles.h"

namespace faq::kernels {

/// A part is as many places as a tile has rows, a column as many outputs as it has. A band is some parts,
/// whose rows are made together. A piece is a band, or one column of it where there are few parts.
struct TilePieces {
  /// bytes_of_part: of the rows of a part.
  TilePieces(std::int64_t places, std::int64_t bytes_of_part, std::int64_t outputs, int threads)
      : parts(divided_up(places, byte_tile_rows)), columns(divided_up(outputs, byte_tile_outputs)) {
    constexpr std::int64_t cache_bytes = 1 << 18;  // of a second-level cache, beside the weights
    const std::int64_t enough = 4 * threads;       // to be shared evenly
    are_columns = parts < enough;
    const std::int64_t even = (are_columns ? parts * columns : parts) / enough;
    // Few parts are all in one band if columns are enough: each column's weights are read once.
    const std::int64_t most = are_columns ? parts : cache_bytes / bytes_of_part;
    parts_of_band = std::max<std::int64_t>(1, std::min(even, most));
  }

  std::int64_t bands() const { return divided_up(parts, parts_of_band); }
  std::int64_t count() const { return bands() * (are_columns ? columns : 1); }

  struct Piece {
    std::int64_t band, first_column, end_column;
  };
  /// Pieces of one band follow each other.
  Piece operator[](std::int64_t i) const {
    if (!are_columns) return {i, 0, columns};
    return {i / columns, i % columns, i % columns + 1};
  }

  std::int64_t parts, columns;
  std::int64_t parts_of_band;
  bool are_columns;
};

}  // namespace faq::kernels
