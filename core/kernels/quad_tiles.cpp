#include "core/kernels/quad_tiles.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "core/division.h"
#include "core/error.h"
#include "core/kernels/element.h"

namespace faq::kernels {
namespace {

// Σ over the images of a quad: of bytes, or of bf16.
std::int32_t product(const std::uint8_t* x, const std::int8_t* dy, std::int32_t /*dtype*/) {
  std::int32_t sum = 0;
  for (int image = 0; image < 4; ++image) sum += std::int32_t{x[image]} * std::int32_t{dy[image]};
  return sum;
}
float product(const std::uint8_t* x, const std::int8_t* dy, float /*dtype*/) {
  const auto* xs = reinterpret_cast<const bfloat16*>(x);
  const auto* dys = reinterpret_cast<const bfloat16*>(dy);
  return element(xs, 0) * element(dys, 0) + element(xs, 1) * element(dys, 1);
}

template <class Sum, int vectors, int outputs>
void plain_tile(const QuadPixels<Sum>& r) {
  constexpr int length = vectors * quad_lanes;
  const std::int8_t* dy = r.dy;
  if (!r.adds) std::fill_n(r.sums, outputs * length, Sum{0});
  for (std::int64_t line = 0; line < r.count; ++line) {
    const std::uint8_t* x = r.x + r.lines[line];
    for (std::int64_t pixel = 0; pixel < r.width; ++pixel, x += r.pixel, dy += 4 * outputs) {
      for (int o = 0; o < outputs; ++o) {
        for (int i = 0; i < length; ++i) r.sums[o * length + i] += product(x + 4 * i, dy + 4 * o, Sum{});
      }
    }
  }
}

template <class Sum>
QuadTile<Sum> plain_quad_tile(QuadTileShape shape) {
  constexpr std::size_t count = std::size(pixel_tile_shapes);
  constexpr auto tiles = []<std::size_t... i>(std::index_sequence<i...>) {
    return std::array{&plain_tile<Sum, pixel_tile_shapes[i].vectors, pixel_tile_shapes[i].outputs>...};
  }
  (std::make_index_sequence<count>());
  return tiles[quad_tile_index(pixel_tile_shapes, shape)];
}

constexpr QuadTileSet plain{.name = "plain", .runs = true, .allowed = true};

// A pixel of a block, of which `present` outputs are there.
template <int outputs>
void pack_pixels_of(const QuadBlock& block) {
  const std::uint32_t* from = block.dy;
  std::uint32_t* out = block.out;
  for (std::int64_t pixel = 0; pixel < block.width; ++pixel, from += block.stride, out += outputs) {
    if (block.present == outputs) {
      std::memcpy(out, from, outputs * sizeof *out);
    } else {
      std::memcpy(out, from, static_cast<std::size_t>(block.present) * sizeof *out);
      std::memset(out + block.present, 0, static_cast<std::size_t>(outputs - block.present) * sizeof *out);
    }
  }
}

void pack_pixels(const QuadBlock& block) {
  switch (block.outputs) {
    case 6:
      return pack_pixels_of<6>(block);
    case 8:
      return pack_pixels_of<8>(block);
    case 12:
      return pack_pixels_of<12>(block);
    default:
      return pack_pixels_of<24>(block);
  }
}

QuadTileShape pixel_tile_shape(std::int64_t vectors, std::int64_t /*outputs*/) {
  const int even = even_vectors(vectors, 4);
  return {even, 24 / even};
}

QuadTileSet one_pixel_at_a_time(QuadTileSet set, std::int64_t images) {
  set.images = images;
  set.pixels = 1;
  set.shape = pixel_tile_shape;
  set.pack = pack_pixels;
  set.enter = set.leave = [] {};
  return set;
}

}  // namespace

int even_vectors(std::int64_t vectors, int most) {
  const std::int64_t pieces = divided_up(vectors, most);
  return static_cast<int>(divided_up(vectors, pieces));
}

std::size_t quad_tile_index(std::span<const QuadTileShape> shapes, QuadTileShape shape) {
  const auto found = std::ranges::find(shapes, shape);
  check(found != shapes.end(), ErrorKind::internal, "quads: no tile of ", shape.vectors, "×", shape.outputs);
  return static_cast<std::size_t>(found - shapes.begin());
}

QuadTiles by_pixels(const QuadTileSet& set, QuadTile<std::int32_t> (*tile)(QuadTileShape shape)) {
  return {one_pixel_at_a_time(set, 4), tile};
}

const std::vector<QuadTiles>& quad_tile_sets() {
  static const std::vector<QuadTiles> sets = [] {
    std::vector<QuadTiles> all = x86_quad_tile_sets();
    all.push_back(by_pixels(plain, plain_quad_tile<std::int32_t>));
    return all;
  }();
  return sets;
}

const QuadTiles& quad_tiles(std::int64_t most_pixels) {
  return *std::ranges::find_if(quad_tile_sets(), [&](const QuadTiles& set) {
    return set.runs && set.allowed && set.pixels <= most_pixels;
  });
}

const std::vector<PairTiles>& pair_tile_sets() {
  static const std::vector<PairTiles> sets = [] {
    std::vector<PairTiles> all = amx_pair_tile_sets();
    all.push_back({one_pixel_at_a_time(plain, 2), plain_quad_tile<float>});
    return all;
  }();
  return sets;
}

const PairTiles* pair_tiles() {
  const std::vector<PairTiles>& sets = pair_tile_sets();
  const auto found = std::find_if(sets.begin(), sets.end() - 1,
                                  [](const PairTiles& set) { return set.runs && set.allowed; });
  return found == sets.end() - 1 ? nullptr : &*found;
}

}  // namespace faq::kernels
