// The inner loops of convolutions in tiles (tiled_conv.h), one set for each kind of CPU.
#pragma once

#include <cstdint>
#include <vector>

namespace faq::kernels {

/// What a tile is at most: so many rows of x by so many outputs.
inline constexpr std::int64_t byte_tile_rows = 32, byte_tile_outputs = 64;
/// Bytes of a row that are multiplied at a time.
inline constexpr std::int64_t byte_depth = 64;
/// Outputs of one block of weights.
inline constexpr std::int64_t byte_block_outputs = 16;

/// Some rows of bytes, and the weights of some outputs.
struct BytePanels {
  const void* x;                ///< rows; as many as are a multiple of 16 may be read
  std::int64_t stride;          ///< bytes from one row to the next
  const std::int64_t* offsets;  ///< where the `depth` pieces of byte_depth bytes of a row are
  std::int64_t rows;            ///< 1 to byte_tile_rows
  /// [block of 16 outputs][depth][16][16 outputs][4]: byte 4i + j of a piece is multiplied by
  /// [i][output][j].
  const std::int8_t* weights;
  std::int64_t depth;
  std::int64_t blocks;  ///< of outputs, 1 to byte_tile_outputs / 16
  std::int32_t* sums;
  std::int64_t sums_stride;  ///< from one row to the next, at least that of the blocks
  // What some tiles make use of; see ByteWeights.
  const std::int64_t* quads = nullptr;  ///< of four bytes: of each piece, but for the last ones, of zeros
  std::int64_t quads_together = 0;  ///< that fit into 16 bits, if pairs of products u8·s8 are added there
  bool has_least = true;            ///< a weight is −128
};

/// sums[row][output] = Σ x[row][i]·weights[output][i], for all rows and blocks; the others are undefined. All
/// versions compute the same integers. Precondition: each sum fits into s32.
using ByteTile = void (*)(const BytePanels&);

/// The tiles for one kind of CPU.
struct ByteTiles {
  const char* name;
  bool runs;                        ///< on this CPU
  bool allowed;                     ///< as far as oneDNN may use the CPU (core/cpu.h)
  bool pays;                        ///< is faster than oneDNN's convolutions and a pass over their sums
  bool adds_pairs;                  ///< of products u8·s8, in 16 bits: wants BytePanels::quads_together
  std::int64_t least_taps;          ///< of a filter, times inputs, if oneDNN takes one convolution for it
  float copy_cost;                  ///< of byte_depth bytes, in the time of a row times a block of them
  ByteTile of_unsigned, of_signed;  ///< x: u8, s8
  /// A thread calls them before and after it uses tiles.
  void (*enter)();
  void (*leave)();
};

/// All sets, the fastest first. The last one, plain loops, runs everywhere.
const std::vector<ByteTiles>& byte_tile_sets();
/// The first one that runs here, is allowed, and pays; null if there is none.
const ByteTiles* byte_tiles();
/// Those for AMX, and for AVX2 without VNNI; none elsewhere than on x86-64.
std::vector<ByteTiles> amx_byte_tile_sets();
std::vector<ByteTiles> avx2_byte_tile_sets();

}  // namespace faq::kernels
