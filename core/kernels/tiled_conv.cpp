#include "core/kernels/tiled_conv.h"

#include <algorithm>
#include <limits>
#include <span>
#include <vector>

#include "core/aligned_vector.h"
#include "core/division.h"
#include "core/kernels/byte_weights.h"
#include "core/kernels/conv_observer.h"
#include "core/kernels/in_tiles.h"
#include "core/kernels/tile_pieces.h"
#include "core/kernels/used_bits.h"
#include "core/kernels/windows.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t most_products = (std::int64_t{1} << 31) / (255 * 128);  ///< whose sum fits into s32

// The rows of a band, and where their outputs are.
class Band {
 public:
  Band(const Windows& windows, const TilePieces& pieces)
      : windows_(windows),
        pieces_(pieces),
        buffer_(Tensor::empty({windows.buffer_bytes(pieces.parts_of_band * byte_tile_rows)}, DType::u8)) {}

  void become(std::int64_t band) {
    if (band == band_) return;
    band_ = band;
    begin_ = band * pieces_.parts_of_band;
    end_ = std::min(pieces_.parts, begin_ + pieces_.parts_of_band);
    const std::int64_t first = begin_ * byte_tile_rows;
    rows_ = windows_.rows(first, std::min(end_ * byte_tile_rows, windows_.places()) - first,
                          static_cast<std::byte*>(buffer_.mutable_raw()));
    runs_.clear();
    first_runs_.assign(1, 0);
    std::vector<Windows::Run> runs;
    for (std::int64_t part = begin_; part < end_; ++part) {
      runs.clear();
      windows_.append_runs(part * byte_tile_rows, count(part), runs);
      runs_.insert(runs_.end(), runs.begin(), runs.end());
      first_runs_.push_back(runs_.size());
    }
  }

  std::int64_t begin() const { return begin_; }
  std::int64_t end() const { return end_; }
  std::int64_t count(std::int64_t part) const {
    return std::min(byte_tile_rows, windows_.places() - part * byte_tile_rows);
  }
  const std::byte* rows(std::int64_t part) const {
    return rows_ + (part - begin_) * byte_tile_rows * windows_.stride();
  }
  std::span<const Windows::Run> runs(std::int64_t part) const {
    const std::size_t first = first_runs_[part - begin_], last = first_runs_[part - begin_ + 1];
    return std::span(runs_).subspan(first, last - first);
  }

 private:
  const Windows& windows_;
  const TilePieces& pieces_;
  Tensor buffer_;
  std::int64_t band_ = -1, begin_ = 0, end_ = 0;
  const std::byte* rows_ = nullptr;
  std::vector<Windows::Run> runs_;
  std::vector<std::size_t> first_runs_;  ///< of each part
};

// Quads of bytes of x whose products with weights, added in pairs, fit into 16 bits.
std::int64_t quads_together(const Tensor& x, const ByteWeights& weights) {
  const int largest = used_bits(x.data<std::uint8_t>(), x.numel());
  return std::numeric_limits<std::int16_t>::max() / std::max(1, largest * weights.largest_pair);
}

}  // namespace

bool fits_tiles(const Shape& weights, const ConvGeometry& geometry) {
  return geometry.groups == 1 && weights.numel() / weights[0] <= most_products;
}

bool suits_tiles(const Shape& weights, const ConvGeometry& geometry) {
  constexpr std::int64_t most = 4;  // times the products there are; with more zeros slices are faster
  const std::int64_t taps = weights.numel() / weights[0];
  return fits_tiles(weights, geometry) &&
         multiple_of(byte_depth, taps) * multiple_of(byte_block_outputs, weights[0]) <=
             most * weights.numel();
}

bool pays_in_tiles(WeightForms& weights, const ConvGeometry& geometry, const ByteTiles& tiles) {
  if (!suits_tiles(weights.shape(), geometry)) return false;
  constexpr int largest_byte = 255, largest_weight = 64;  // see conv2d_integer()
  return weights.shape().numel() / weights.shape()[0] >= tiles.least_taps ||
         weights.exact_parts(largest_byte, largest_weight) > 1;
}

void conv2d_in_tiles(const Tensor& x, WeightForms& weights, const ConvGeometry& geometry,
                     const ByteTiles& tiles, const Requantizer& requantizer, const Tensor& residual,
                     Tensor& out) {
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "convolution in tiles: input u8 or s8, got ",
        x.dtype());
  const Booked booked(Work::convolution);
  report({ConvPass::forward, x.shape(), weights.shape(), out.shape(), geometry, x.dtype(), weights.dtype(),
          out.dtype()});
  const Shape shape = conv2d_shape(x.shape(), weights.shape(), geometry);
  const Requantizer::Places places = requantizer.places(shape, residual, out);
  const auto windows = windows_of(x, geometry.of(weights.shape()), shape, tiles.copy_cost);
  const auto depth = static_cast<std::int64_t>(windows->offsets().size());
  const bool is_signed = x.dtype() == DType::s8;
  const auto packed = weights.for_tiles(depth / windows->line());
  const Tensor& blocks = packed->blocks;
  const std::int64_t together = tiles.adds_pairs && !is_signed ? quads_together(x, *packed) : 0;
  const std::int64_t outputs = shape[3];
  const ByteTile tile = is_signed ? tiles.of_signed : tiles.of_unsigned;
  const TilePieces pieces(windows->places(), byte_tile_rows * windows->stride(), outputs, num_threads());
  constexpr std::int64_t first_cache = 1 << 15;             // bytes, of which most is free
  const bool weights_stay = blocks.numel() <= first_cache;  // else those of a column may
  // Rows of few sums lie behind each other, as those of a result do.
  const std::int64_t sums_stride =
      outputs % byte_block_outputs == 0 ? std::min(outputs, byte_tile_outputs) : byte_tile_outputs;
  parallel_for(pieces.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    Band band(*windows, pieces);
    alignas(cache_line) std::int32_t sums[byte_tile_rows * byte_tile_outputs];
    const auto compute = [&](std::int64_t part, std::int64_t column) {
      const std::int64_t first = column * byte_tile_outputs;
      const std::int64_t channels = std::min(byte_tile_outputs, outputs - first);
      tile({.x = band.rows(part),
            .stride = windows->stride(),
            .offsets = windows->offsets().data(),
            .rows = band.count(part),
            .weights = blocks.data<std::int8_t>() + first * depth * byte_depth,
            .depth = depth,
            .blocks = divided_up(channels, byte_block_outputs),
            .sums = sums,
            .sums_stride = sums_stride,
            .quads = packed->quads.data(),
            .quads_together = together,
            .has_least = packed->has_least});
      for (const Windows::Run& run : band.runs(part))
        requantizer({.sums = sums + (run.place - part * byte_tile_rows) * sums_stride,
                     .stride = sums_stride,
                     .first_row = run.output,
                     .rows = run.count,
                     .first_channel = first,
                     .channels = channels},
                    places);
    };
    const InTiles in_tiles(tiles);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [number, first, last] = pieces[i];
      band.become(number);
      if (weights_stay) {
        for (std::int64_t part = band.begin(); part < band.end(); ++part)
          for (std::int64_t column = first; column < last; ++column) compute(part, column);
      } else {
        for (std::int64_t column = first; column < last; ++column)
          for (std::int64_t part = band.begin(); part < band.end(); ++part) compute(part, column);
      }
    }
  });
}

}  // namespace faq::kernels
