// Deployed convolutions in tiles, against sums that are made and requantized apart.
#include "core/kernels/tiled_conv.h"

#include <algorithm>
#include <iterator>
#include <string>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/byte_weights.h"
#include "core/kernels/conv.h"
#include "core/kernels/tile_pieces.h"
#include "core/kernels/unit.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::ByteTiles;
using kernels::Requantize;
using reference::Convolution;

namespace {

template <class Check>
void for_each_tile_set(Check check) {
  for (const ByteTiles& tiles : kernels::byte_tile_sets()) {
    if (!tiles.runs) continue;
    INFO("tiles for " << tiles.name);
    check(tiles);
  }
}

// A result of some deployed convolution.
struct Deployed {
  Tensor x, w, residual;  ///< residual: may be undefined
  ConvGeometry geometry;
  Requantize params;

  Shape shape() const { return kernels::conv2d_shape(x.shape(), w.shape(), geometry); }
  Tensor place() const { return Tensor::empty(shape(), params.format.is_signed ? DType::s8 : DType::u8); }
  Tensor in_tiles(const ByteTiles& tiles) const {
    Tensor out = place();
    const kernels::PackedWeights weights(w);
    const kernels::Requantizer requantizer(params, shape()[3]);
    kernels::conv2d_in_tiles(x, weights.forms(), geometry, tiles, requantizer, residual, out);
    return out;
  }
  Tensor apart() const {
    Tensor out = place();
    kernels::Requantizer(params, shape()[3])(kernels::conv2d_integer(x, w, geometry, Engine::integer),
                                             residual, out);
    return out;
  }
};

Tensor random_bytes(const Shape& shape, std::uint64_t salt, bool is_signed) {
  return is_signed ? reference::random_integers<std::int8_t>(shape, salt, -127, 127)
                   : reference::random_integers<std::uint8_t>(shape, salt, 0, 255);
}

// Largest bytes of x, and weights. Tiles that add pairs of products in 16 bits do it in one way for the first
// three, and in others for the last two.
struct Range {
  int x, weight;
};
constexpr Range ranges[] = {{15, 7}, {255, 7}, {15, 127}, {127, 127}, {255, 127}};

// `salt` decides which dtypes and ranges there are, and whether there is a residual.
Deployed deployed(const Convolution& c, std::uint64_t salt) {
  const std::int64_t channels = c.w[0];
  const Tensor residual = salt % 3 == 0 ? Tensor() : random_bytes(c.y(), salt + 2, salt % 3 == 1);
  const auto products = static_cast<double>(c.w.numel() / channels);
  const auto [largest, weight] = ranges[salt % std::size(ranges)];
  const double scale = 255.0 * 127 / (largest * weight);
  return {.x = salt % 2 == 1 ? reference::random_integers<std::int8_t>(c.x, salt, -128, 127)
                             : reference::random_integers<std::uint8_t>(c.x, salt, 0, largest),
          .w = reference::random_integers<std::int8_t>(c.w, salt + 1, -weight, weight),
          .residual = residual,
          .geometry = c.geometry,
          .params = {.multiplier = reference::random({channels}, salt + 3, 0.001 * scale / products,
                                                     0.02 * scale / products),
                     .bias = reference::random({channels}, salt + 4, -20, 60),
                     .residual_multiplier = 0.37f,
                     .activation = salt % 4 < 2 ? Activation::relu : Activation::identity,
                     .format = {.bits = 8, .is_signed = salt % 4 > 1}}};
}

std::vector<Convolution> cases() {
  std::vector<Convolution> all = {
      // Of pixels: rows that lie in the images, whole pieces and not.
      {{2, 9, 7, 64}, {64, 64, 1, 1}, {}},
      {{3, 5, 5, 128}, {130, 128, 1, 1}, {}},
      {{2, 11, 11, 24}, {144, 24, 1, 1}, {}},
      {{1, 1, 1, 7}, {3, 7, 1, 1}, {}},
      {{40, 1, 1, 100}, {72, 100, 1, 1}, {}},
      {{2, 8, 8, 64}, {40, 64, 1, 1}, {.stride = 2}},
      {{2, 4, 4, 64}, {16, 64, 1, 1}, {.padding = 1}},
      // Lines of taps, with borders of all kinds.
      {{2, 14, 14, 64}, {64, 64, 3, 3}, {.padding = 1}},
      {{3, 8, 8, 16}, {16, 16, 3, 3}, {.padding = 1}},
      {{2, 9, 10, 32}, {48, 32, 3, 3}, {}},
      {{2, 7, 9, 48}, {33, 48, 5, 5}, {.padding = 2}},
      {{1, 12, 13, 40}, {20, 40, 1, 7}, {.padding = {0, 3}}},
      {{2, 13, 12, 40}, {20, 40, 7, 1}, {.padding = {3, 0}}},
      {{2, 6, 6, 32}, {16, 32, 3, 3}, {.padding = {0, 1, 2, 0}}},
      {{2, 6, 6, 32}, {16, 32, 2, 4}, {.padding = {1, 0, 0, 3}}},
      {{2, 6, 6, 64}, {16, 64, 3, 3}, {.padding = 2}},
      {{2, 9, 9, 64}, {16, 64, 3, 3}, {.padding = 2, .dilation = {2, 1}}},
      // Patches: strides, dilation, few channels, a filter as large as the image, borders wider than that.
      {{2, 30, 30, 3}, {64, 3, 7, 7}, {.stride = 2, .padding = 3}},
      {{2, 12, 12, 3}, {16, 3, 3, 3}, {.padding = 1}},
      {{2, 15, 15, 64}, {96, 64, 3, 3}, {.stride = 2, .padding = 1}},
      {{2, 15, 14, 20}, {17, 20, 5, 3}, {.stride = 3, .padding = {2, 1, 0, 0}}},
      {{2, 11, 11, 30}, {12, 30, 3, 3}, {.padding = 2, .dilation = 2}},
      {{20, 4, 4, 48}, {70, 48, 4, 4}, {}},
      {{2, 3, 3, 64}, {8, 64, 3, 3}, {.padding = 4}},
      {{1, 2, 2, 1}, {1, 1, 1, 1}, {.stride = 3}},
      // No image.
      {{0, 8, 8, 16}, {16, 16, 3, 3}, {.padding = 1}},
      // Several bands, and columns of them.
      {{5, 7, 7, 512}, {128, 512, 3, 3}, {.stride = 2, .padding = 1}},
      {{4, 40, 40, 64}, {64, 64, 3, 3}, {.padding = 1}},
      {{6, 28, 28, 96}, {200, 96, 1, 1}, {}},
      {{2, 16, 16, 256}, {128, 256, 3, 3}, {.padding = 1}},
  };
  return all;
}

}  // namespace

TEST_CASE("convolutions in tiles give the integers of sums that are requantized apart", "[tiles][isa]") {
  for_each_tile_set([](const ByteTiles& tiles) {
    std::uint64_t salt = 0;
    for (const Convolution& c : cases()) {
      // Plain tiles take long. Every case has all dtypes, ranges, residuals and formats on the others.
      for (int i = 0; i < (std::string(tiles.name) == "plain" ? 1 : 30); ++i) {
        const Deployed d = deployed(c, ++salt);
        INFO(c << ", " << d.x.dtype() << ", " << (d.residual ? name_of(d.residual.dtype()) : "no residual")
               << ", " << d.params.format);
        CHECK(reference::same_bytes(d.in_tiles(tiles), d.apart()));
      }
    }
  });
}

TEST_CASE("convolutions in tiles do not depend on threads", "[tiles][isa]") {
  const Convolution some[] = {{{1, 7, 7, 128}, {256, 128, 3, 3}, {.padding = 1}},
                              {{3, 20, 20, 16}, {24, 16, 3, 3}, {.padding = 1}},
                              {{2, 17, 17, 8}, {300, 8, 3, 3}, {.stride = 2}}};
  for_each_tile_set([&](const ByteTiles& tiles) {
    for (const Convolution& c : some) {
      INFO(c);
      const Deployed d = deployed(c, 5);
      set_num_threads(1);
      const Tensor expected = d.in_tiles(tiles);
      for (const int threads : {2, 3, 5}) {
        set_num_threads(threads);
        CHECK(reference::same_bytes(d.in_tiles(tiles), expected));
      }
      set_num_threads(0);
      CHECK(reference::same_bytes(d.apart(), expected));
    }
  });
}

TEST_CASE("sums in tiles may be as large as 32 bits hold", "[tiles][isa]") {
  // The longest filter, of the largest products.
  const Convolution c{{2, 1, 1, 65793}, {5, 65793, 1, 1}, {}};
  REQUIRE(kernels::fits_tiles(c.w, c.geometry));
  CHECK_FALSE(kernels::fits_tiles({5, 65794, 1, 1}, c.geometry));
  for_each_tile_set([&](const ByteTiles& tiles) {
    for (const bool is_signed : {false, true}) {
      for (const int weight : {127, -128}) {
        Tensor x = Tensor::empty(c.x, is_signed ? DType::s8 : DType::u8), w = Tensor::empty(c.w, DType::s8);
        if (is_signed)
          std::ranges::fill(x.mutable_span<std::int8_t>(), std::int8_t{-128});
        else
          std::ranges::fill(x.mutable_span<std::uint8_t>(), std::uint8_t{255});
        std::ranges::fill(w.mutable_span<std::int8_t>(), static_cast<std::int8_t>(weight));
        const double sum = 65793.0 * (is_signed ? -128 : 255) * weight;
        const Deployed d{x,
                         w,
                         {},
                         {},
                         {.multiplier = Tensor::full({5}, 0x1p-24f),
                          .bias = Tensor::full({5}, static_cast<float>(-sum * 0x1p-24) + 7),
                          .residual_multiplier = 0,
                          .activation = Activation::identity,
                          .format = {.bits = 8, .is_signed = true}}};
        const Tensor q = d.in_tiles(tiles);
        for (const int v : q.span<std::int8_t>()) CHECK(v == 7);
      }
    }
  });
}

TEST_CASE("tiles are used where they pay", "[tiles][isa]") {
  const ByteTiles* tiles = kernels::byte_tiles();
  const std::string isa = isa_name();
  INFO(isa);
  const auto& sets = kernels::byte_tile_sets();
  const bool there_are = std::ranges::any_of(sets, [](const ByteTiles& set) {
    return set.runs && set.allowed && set.pays;
  });  // a system may keep AMX
  CHECK((tiles != nullptr) == there_are);
  if (isa != "AVX512_CORE_AMX" && isa != "AVX2") CHECK(tiles == nullptr);
  if (tiles) CHECK(std::string(tiles->name) == (isa == "AVX2" ? "AVX2" : "AMX"));
  // Filters of few taps, or few of them, are mostly zeros in tiles.
  CHECK(kernels::suits_tiles({96, 16, 1, 1}, {}));
  CHECK(kernels::suits_tiles({16, 3, 3, 3}, {}));
  CHECK_FALSE(kernels::suits_tiles({8, 8, 1, 1}, {}));
  CHECK_FALSE(kernels::suits_tiles({1, 3, 3, 3}, {}));
  CHECK_FALSE(kernels::suits_tiles({64, 8, 3, 3}, {.groups = 8}));
  // Without VNNI: where filters are long, or weights would be divided.
  const auto pays = [](const Shape& shape, std::int8_t weight, const ByteTiles& set) {
    Tensor w = Tensor::zeros(shape, DType::s8);
    std::ranges::fill(w.mutable_span<std::int8_t>(), weight);
    const kernels::PackedWeights packed(w);
    return kernels::pays_in_tiles(packed.forms(), {}, set);
  };
  for_each_tile_set([&](const ByteTiles& set) {
    if (std::string(set.name) == "plain") return;
    const bool always = std::string(set.name) == "AMX";
    CHECK(pays({64, 64, 1, 1}, 7, set) == always);
    CHECK(pays({64, 64, 1, 1}, 65, set));
    CHECK(pays({64, 256, 1, 1}, 7, set));
    CHECK_FALSE(pays({8, 8, 1, 1}, 65, set));
  });
}

TEST_CASE("weights for tiles know their quads, and how large they are", "[tiles]") {
  // Two lines of 3 taps of 7 inputs: 21 bytes each, of which the last quad has one.
  Tensor w = reference::random_integers<std::int8_t>({18, 7, 2, 3}, 1, -3, 3);
  const kernels::ByteWeights packed(w, 2);
  CHECK(packed.quads == std::vector<std::int64_t>{6, 6});
  CHECK(packed.blocks.numel() == 2 * 2 * kernels::byte_depth * kernels::byte_block_outputs);
  CHECK(packed.largest_pair <= 6);
  CHECK_FALSE(packed.has_least);
  // A long line has several pieces.
  CHECK(kernels::ByteWeights(Tensor::zeros({1, 70, 1, 1}, DType::s8), 1).quads ==
        std::vector<std::int64_t>{16, 2});
  // Bytes of one sign count. Of a line, bytes 2i and 2i + 1 are a pair.
  struct Row {
    std::vector<std::int8_t> line;
    int largest_pair;
    bool has_least;
  };
  const Row rows[] = {{{100, 27, -3, 2}, 127, false},
                      {{0, 100, 27, 0}, 100, false},
                      {{-128, -127, 5, 5}, 255, true},
                      {{90, -100, 60, 60}, 120, false},
                      {{0, 0, 0, -128}, 128, true}};
  for (const Row& row : rows) {
    Tensor line = Tensor::empty({1, 4, 1, 1}, DType::s8);
    std::ranges::copy(row.line, line.mutable_span<std::int8_t>().begin());
    const kernels::ByteWeights of(line, 1);
    CHECK(of.largest_pair == row.largest_pair);
    CHECK(of.has_least == row.has_least);
  }
}

TEST_CASE("pieces of a convolution in tiles are as many as threads want, and each tile's work once",
          "[tiles]") {
  struct Row {
    std::int64_t places, bytes_of_part, outputs;
  };
  const Row rows[] = {{0, 2048, 64},    {1, 2048, 64},       {49, 147456, 512}, {64, 802816, 4096},
                      {3249, 2048, 64}, {100352, 18432, 64}, {196, 32768, 256}, {1089, 512, 16},
                      {841, 4096, 32},  {225, 4096, 32},     {81, 2048, 64},    {33, 147456, 1000}};
  for (const Row& row : rows) {
    for (const int threads : {1, 2, 4, 8, 32}) {
      INFO(row.places << " places, " << row.bytes_of_part << " bytes, " << row.outputs << " outputs, "
                      << threads << " threads");
      const kernels::TilePieces pieces(row.places, row.bytes_of_part, row.outputs, threads);
      const std::int64_t all = pieces.parts * pieces.columns;
      CHECK(pieces.count() >= std::min<std::int64_t>(all, threads));
      std::vector<int> times(static_cast<std::size_t>(all));
      for (std::int64_t i = 0; i < pieces.count(); ++i) {
        const auto [band, first, last] = pieces[i];
        const std::int64_t end = std::min(pieces.parts, (band + 1) * pieces.parts_of_band);
        for (std::int64_t part = band * pieces.parts_of_band; part < end; ++part)
          for (std::int64_t column = first; column < last; ++column) ++times[part * pieces.columns + column];
      }
      CHECK(std::ranges::all_of(times, [](int n) { return n == 1; }));
    }
  }
}

TEST_CASE("a deployed convolution is the same with and without tiles", "[tiles][isa]") {
  for (const ConvGeometry& geometry : {ConvGeometry{.padding = 1}, {.padding = 1, .groups = 4}}) {
    INFO(geometry);
    Deployed d = deployed({{3, 12, 12, 32}, {64, 32, 3, 3}, {.padding = 1}}, 1);
    d.geometry = geometry;
    d.w = reference::random_integers<std::int8_t>({64, 32 / geometry.groups, 3, 3}, 9, -127, 127);
    for (const Engine engine : {Engine::integer, Engine::simulated}) {
      Tensor out = d.place();
      kernels::conv2d_requantize(d.x, kernels::PackedWeights(d.w), geometry, engine, d.residual, d.params,
                                 out);
      CHECK(reference::same_bytes(out, d.apart()));
    }
  }
}

TEST_CASE("convolutions in tiles refuse places that do not fit", "[tiles]") {
  const Deployed d = deployed({{1, 4, 4, 8}, {16, 8, 3, 3}, {.padding = 1}}, 4);
  const kernels::PackedWeights weights(d.w);
  const kernels::Requantizer requantizer(d.params, 16);
  const ByteTiles& tiles = kernels::byte_tile_sets().back();
  Tensor narrow = Tensor::empty({1, 4, 3, 16}, DType::u8);
  CHECK_THROWS_WITH(
      kernels::conv2d_in_tiles(d.x, weights.forms(), d.geometry, tiles, requantizer, {}, narrow),
      Catch::Contains("requantize"));
  Tensor out = d.place();
  CHECK_THROWS_WITH(kernels::conv2d_in_tiles(d.x, weights.forms(), d.geometry, tiles, requantizer,
                                             Tensor::zeros({1, 4, 4, 8}, DType::u8), out),
                    Catch::Contains("residual"));
  CHECK_THROWS_WITH(kernels::conv2d_in_tiles(d.x, weights.forms(), d.geometry, tiles, requantizer,
                                             Tensor::zeros(d.shape()), out),
                    Catch::Contains("residual u8 or s8"));
  CHECK_THROWS_WITH(kernels::conv2d_in_tiles(Tensor::zeros(d.x.shape()), weights.forms(), d.geometry, tiles,
                                             requantizer, {}, out),
                    Catch::Contains("input u8 or s8"));
  const Deployed other = deployed({{1, 4, 4, 8}, {20, 8, 3, 3}, {.padding = 1}}, 4);
  CHECK_THROWS_WITH(kernels::conv2d_in_tiles(d.x, weights.forms(), d.geometry, tiles,
                                             kernels::Requantizer(other.params, 20), {}, out),
                    Catch::Contains("20 multipliers"));
}
