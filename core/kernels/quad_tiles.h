// The inner loops of QuadGradient, one set for each kind of CPU. Included by core/kernels/*.cpp only, and by
// their tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace faq::kernels {

/// Some rows of the outputs, and what they see of the input. Bytes of four images lie side by side: x[…][4],
/// u8, and dy[…][4], s8.
struct QuadRows {
  const std::uint8_t* x;     ///< what the tile sees at the first pixel of a row
  const std::int64_t* rows;  ///< offset of each row of x, in bytes; one more may be read, and is not used
  std::int64_t count;        ///< of rows
  std::int64_t width;        ///< pixels of a row
  std::int64_t pixel;        ///< bytes of x from one pixel to the next
  const std::int8_t* dy;     ///< count × width × outputs × 4
  std::int32_t* sums;        ///< outputs × vectors × 16
};

/// 16 values of x, each of four images.
inline constexpr std::int64_t quad_lanes = 16;

/// sums[o][i] += Σ over pixels and their four images of dy[o]·x[i], for i below 16·vectors. All versions
/// compute the same integers. A sum of up to max_quad_products products fits.
using QuadTile = void (*)(const QuadRows&);
inline constexpr std::int64_t max_quad_products = 66000;  ///< 66000·255·127 < 2^31

/// The tiles that there are: so many vectors of x, so many outputs.
struct QuadTileShape {
  int vectors, outputs;
};
inline constexpr QuadTileShape quad_tile_shapes[] = {{1, 24}, {2, 12}, {3, 8}, {4, 6},
                                                     {1, 6},  {2, 6},  {3, 6}};
/// Its place among quad_tile_shapes. Throws internal if it is none.
std::size_t quad_tile_index(QuadTileShape shape);

/// The tiles for one kind of CPU.
struct QuadTiles {
  const char* name;
  bool runs;     ///< on this CPU
  bool allowed;  ///< as far as oneDNN may use the CPU (core/cpu.h)
  QuadTile (*tile)(QuadTileShape shape);
};
/// All sets, the fastest first. The last one, plain loops, runs everywhere.
const std::vector<QuadTiles>& quad_tile_sets();
/// The first one that runs here and is allowed.
const QuadTiles& quad_tiles();
/// The sets that are written for x86-64; none elsewhere.
std::vector<QuadTiles> x86_quad_tile_sets();

}  // namespace faq::kernels
