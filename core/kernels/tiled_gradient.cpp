#include "core/kernels/tiled_gradient.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "core/division.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/in_tiles.h"
#include "core/kernels/quads.h"
#include "core/kernels/tile_places.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t any_rows = std::numeric_limits<std::int64_t>::max();  // f32 holds sums of any length

}  // namespace

bool TiledGradient::suits(const Shape& x, const Shape& weights, const ConvGeometry& geometry, DType x_dtype,
                          DType dy_dtype) {
  const PairTiles* tiles = pair_tiles();
  if (!tiles || geometry.groups != 1 || weights.numel() == 0 || x[0] == 0 || dy_dtype != DType::bf16 ||
      (x_dtype != DType::u8 && x_dtype != DType::s8 && x_dtype != DType::bf16))
    return false;
  const QuadGrid grid(conv2d_shape(x, weights, geometry), QuadPlan(weights, geometry, *tiles), geometry,
                      any_rows, QuadOperands::cache_bytes);
  const double of_images = static_cast<double>(x[0]) / static_cast<double>(grid.quads * tiles->images);
  return grid.share_of_outputs() * of_images >= least_share_of_outputs;
}

std::int64_t TiledGradient::images_together(DType dy) {
  const PairTiles* tiles = pair_tiles();
  return tiles && dy == DType::bf16 ? tiles->images : 1;
}

TiledGradient::TiledGradient(const Shape& weights, const ConvGeometry& geometry, const PairTiles& tiles)
    : geometry_(geometry), tiles_(tiles), plan_(weights, geometry, tiles) {}

void TiledGradient::add(const Tensor& x, const Tensor& dy) {
  const Booked booked(Work::convolution);
  // A group's copies stay in the cache, unless there are so many sums to read and write for each that larger
  // groups pay.
  const std::int64_t images = x.dim(0);
  const std::int64_t image_bytes = 2 * (x.numel() + dy.numel()) / std::max<std::int64_t>(images, 1);
  const std::int64_t sum_bytes = plan_.tiles() * plan_.sums() * static_cast<std::int64_t>(sizeof(float));
  const std::int64_t together =
      std::max(QuadOperands::cache_bytes, sum_bytes) / std::max<std::int64_t>(image_bytes, 1);
  const std::int64_t longest = std::max<std::int64_t>(2, together / 2 * 2);
  for (std::int64_t begin = 0; begin < images; begin += longest) {
    const std::int64_t end = std::min(begin + longest, images);
    const Tensor some = x.rows(begin, end);
    add_group(x.dtype() == DType::bf16 ? some : convert_unscaled(some, DType::bf16), dy.rows(begin, end));
  }
}

void TiledGradient::add_group(const Tensor& x, const Tensor& dy) {
  const QuadOperands operands(x, dy, plan_, geometry_, tiles_, any_rows);
  std::vector<QuadTile<float>> kernels;
  for (std::int64_t block = 0; block < plan_.blocks; ++block)
    kernels.push_back(tiles_.tile({plan_.vectors_of(block), plan_.outputs}));
  const bool adds = sums_.defined();
  if (!adds) sums_ = Tensor::empty({plan_.tiles() * plan_.sums()});
  float* sums = sums_.mutable_data<float>();
  const std::int64_t lines = operands.grid().lines, band = operands.lines_of_band();
  parallel_for(plan_.tiles(), 1, [&](std::int64_t first, std::int64_t past) {
    const InTiles in_tiles(tiles_);
    for (std::int64_t from = 0; from < lines; from += band) {
      QuadPlan::Tile tile = plan_.tile(first);
      for (std::int64_t i = first; i < past; ++i, plan_.advance(tile))
        kernels[tile.block](operands.pixels(tile, from, std::min(from + band, lines), adds || from > 0,
                                            sums + i * plan_.sums()));
    }
  });
}

void TiledGradient::add(const TiledGradient& part) { add_in_place(sums_, part.sums_); }

Tensor TiledGradient::sum() const { return TilePlaces(plan_, {}).placed(sums_.data<float>()); }

}  // namespace faq::kernels
