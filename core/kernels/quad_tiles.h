// The inner loops of QuadGradient and TiledGradient, one set for each kind of CPU. Included by
// core/kernels/*.cpp only, and by their tests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace faq::kernels {

/// Some lines of pixels of the outputs, and what they see of the input. A quad is four bytes that lie side by
/// side: a byte of each of four images (x: u8, dy: s8), or a bf16 of each of two.
template <class Sum>
struct QuadPixels {
  const std::uint8_t* x;      ///< what the tile sees at the first pixel of a line
  const std::int64_t* lines;  ///< offset of each line of x, in bytes; one more may be read, and is not used
  std::int64_t count;         ///< of lines
  std::int64_t width;         ///< pixels of a line, a multiple of QuadTileSet::pixels
  std::int64_t pixel;         ///< bytes of x from one pixel to the next
  const std::int8_t* dy;      ///< count × width/pixels × outputs × pixels × 4
  bool adds;                  ///< to the sums that are there
  bool are_nibbles = false;   ///< no byte of x is above 15
  Sum* sums;                  ///< outputs × vectors × 16
};

/// 16 values of x, each of all images of a quad.
inline constexpr std::int64_t quad_lanes = 16;

/// sums[o][i] = or += Σ over pixels and the images of a quad of dy[o]·x[i], for i below 16·vectors. All
/// versions for bytes compute the same integers. A sum of up to max_quad_products products fits.
template <class Sum>
using QuadTile = void (*)(const QuadPixels<Sum>&);
inline constexpr std::int64_t max_quad_products = 66000;  ///< 66000·255·127 < 2^31

/// A tile: so many vectors of x, so many outputs.
struct QuadTileShape {
  int vectors, outputs;

  bool operator==(const QuadTileShape&) const = default;
};

/// The gradient of one block of outputs, as a tile reads it: out[pixel / pixels][output][pixel % pixels] =
/// dy[pixel · stride + output], each a quad, for the first `present` outputs; zeros for the others.
struct QuadBlock {
  const std::uint32_t* dy;
  std::int64_t width;   ///< pixels, a multiple of QuadTileSet::pixels
  std::int64_t stride;  ///< from one pixel to the next
  std::int64_t outputs, present;
  std::uint32_t* out;
};

/// The tiles for one kind of CPU, but for the loops themselves.
struct QuadTileSet {
  const char* name;
  bool runs = false;           ///< on this CPU
  bool allowed = false;        ///< as far as oneDNN may use the CPU (core/cpu.h)
  std::int64_t images = 0;     ///< of a quad
  std::int64_t pixels = 0;     ///< that a tile takes at a time
  bool wants_nibbles = false;  ///< tiles are faster with QuadPixels::are_nibbles
  /// The shape of tiles for runs of so many vectors, and so many outputs in all. A run may want several.
  QuadTileShape (*shape)(std::int64_t vectors, std::int64_t outputs) = nullptr;
  void (*pack)(const QuadBlock& block) = nullptr;
  /// A thread calls them before and after it uses tiles.
  void (*enter)() = nullptr;
  void (*leave)() = nullptr;
};

/// Tiles of bytes of four images.
struct QuadTiles : QuadTileSet {
  /// Throws internal if there is none of that shape.
  QuadTile<std::int32_t> (*tile)(QuadTileShape shape);
};

/// Tiles of bf16 of two images. Sums are added in f32, pixel after pixel as the hardware does it.
struct PairTiles : QuadTileSet {
  QuadTile<float> (*tile)(QuadTileShape shape);
};

/// The fewest vectors, up to `most`, with which a run has the fewest pieces.
int even_vectors(std::int64_t vectors, int most);

/// `set` as tiles of bytes that take one pixel at a time: its name, and on which CPU it is used.
QuadTiles by_pixels(const QuadTileSet& set, QuadTile<std::int32_t> (*tile)(QuadTileShape shape));
/// Their shapes: 24 accumulators, or what is left of a block of channels.
inline constexpr QuadTileShape pixel_tile_shapes[] = {{1, 24}, {2, 12}, {3, 8}, {4, 6},
                                                      {1, 6},  {2, 6},  {3, 6}};
/// The place of a shape in a list of them. Throws internal if it is not there.
std::size_t quad_tile_index(std::span<const QuadTileShape> shapes, QuadTileShape shape);

/// All sets, the fastest first. The last one, plain loops, runs everywhere.
const std::vector<QuadTiles>& quad_tile_sets();
/// The first one that runs here, is allowed, and takes at most so many pixels at a time.
const QuadTiles& quad_tiles(std::int64_t most_pixels = 16);
/// The sets that are written for x86-64; none elsewhere.
std::vector<QuadTiles> x86_quad_tile_sets();
/// Of them, the one for AMX.
QuadTiles amx_quad_tiles();

/// All sets of bf16, the fastest first. The last one, plain loops, runs everywhere, for tests.
const std::vector<PairTiles>& pair_tile_sets();
/// The first one that runs here, is allowed, and is no plain loop; null if there is none.
const PairTiles* pair_tiles();
/// Those for AMX; none elsewhere than on x86-64.
std::vector<PairTiles> amx_pair_tile_sets();

}  // namespace faq::kernels
