// Gradients of convolutions from 8-bit gradients. Tagged [isa]: see kernels_conv_test.cpp.
#include <cmath>

#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/integer_data_gradient.h"
#include "core/kernels/learned_scale.h"
#include "core/kernels/quad_gradient.h"
#include "core/kernels/quad_group.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::QuadGradient;
using kernels::RoundedGradient;
using reference::Convolution;

namespace {

std::vector<Convolution> cases() {
  std::vector<Convolution> all;
  const std::int64_t channels[] = {1, 3, 5, 16, 17, 32, 48, 64, 65, 80, 130};
  const std::int64_t outputs[] = {1, 6, 7, 16, 24, 25};
  // Channels and kernels all with all; the others take turns.
  for (const std::int64_t c : channels)
    for (const std::int64_t kernel : {1, 2, 3, 5, 7}) {
      const auto i = static_cast<std::int64_t>(all.size());
      const int padding = static_cast<int>(i % (kernel / 2 + 1));
      all.push_back({{1 + i % 9, 7 + i % 3, 8 + i % 4, c},
                     {outputs[i % 6], c, kernel, kernel},
                     {.stride = 1 + static_cast<int>(i % 3), .padding = padding}});
    }
  all.push_back({{3, 9, 9, 16}, {8, 16, 1, 7}, {.padding = {0, 3}}});
  all.push_back({{2, 9, 9, 16}, {8, 16, 7, 1}, {.padding = {3, 0}}});
  all.push_back({{5, 8, 8, 4}, {5, 4, 3, 3}, {.stride = 2}});
  all.push_back({{2, 6, 7, 16}, {16, 16, 3, 3}, {.padding = {1, 0, 0, 2}}});
  all.push_back({{1, 7, 7, 3}, {4, 3, 3, 3}, {.stride = 2, .padding = {0, 0, 1, 1}}});
  all.push_back({{6, 9, 8, 16}, {32, 16, 3, 3}, {.padding = 2, .dilation = 2}});
  all.push_back({{4, 9, 8, 70}, {9, 70, 3, 3}, {.padding = {1, 2}, .dilation = {1, 2}}});
  all.push_back({{4, 8, 9, 8}, {5, 8, 1, 1}, {.stride = 2, .padding = 1}});
  all.push_back({{8, 1, 1, 70}, {10, 70, 1, 1}, {}});
  // So many weights that their gradient is written past the caches; the last input is larger than a band.
  all.push_back({{5, 1, 1, 1013}, {1037, 1013, 1, 1}, {}});
  all.push_back({{3, 4, 3, 345}, {339, 345, 3, 3}, {}});
  all.push_back({{4, 32, 32, 100}, {1170, 100, 3, 3}, {.stride = 15}});
  return all;
}

RoundedGradient gradient_of(const Convolution& c, std::uint64_t salt, float scale) {
  return {reference::random_integers<std::int8_t>(c.y(), salt, -127, 127), scale};
}

// As QuadGradient says it: exact sums over rows of four images, as f32 times the scale.
std::vector<float> weight_gradient_plainly(const Tensor& x, const RoundedGradient& dy, const Shape& weights,
                                           const ConvGeometry& geometry) {
  const Shape y = dy.values.shape();
  const std::int64_t unit = kernels::max_quad_products / (4 * y[2]);
  const std::int64_t rows = (y[0] + 3) / 4 * y[1];
  const auto xs = reference::elements<std::int64_t>(x), gs = reference::elements<std::int64_t>(dy.values);
  std::vector<float> dw(static_cast<std::size_t>(weights.numel()));
  for (std::int64_t first = 0; first < rows; first += unit) {
    std::vector<std::int64_t> sums(dw.size());
    reference::for_each_tap(x.shape(), weights, geometry, [&](auto yi, auto xi, auto wi) {
      const std::int64_t image = yi / (y[1] * y[2] * y[3]);
      const std::int64_t row = image / 4 * y[1] + yi / (y[2] * y[3]) % y[1];
      if (row >= first && row < first + unit) sums[wi] += gs[yi] * xs[xi];
    });
    for (std::size_t i = 0; i < dw.size(); ++i) {
      const float more = static_cast<float>(static_cast<std::int32_t>(sums[i])) * dy.scale;
      dw[i] = first == 0 ? more : dw[i] + more;
    }
  }
  return dw;
}

template <class Check>
void for_each_tile_set(Check check) {
  for (const kernels::QuadTiles& tiles : kernels::quad_tile_sets()) {
    if (!tiles.runs) continue;
    INFO("tiles for " << tiles.name);
    check(tiles);
  }
}

}  // namespace

TEST_CASE("the tiles in use are those the instruction set allows", "[gradient][isa]") {
  const std::string name = kernels::quad_tiles().name;
  const std::string isa = isa_name();
  INFO(isa << ", " << name);
  if (isa == "AVX2" || isa == "AVX512_CORE") CHECK(name == "AVX2");
  if (isa == "AVX2_VNNI") CHECK(name == "AVX-VNNI");
  if (isa == "AVX512_CORE_VNNI" || isa == "AVX512_CORE_BF16") CHECK(name == "AVX-512 VNNI");
  // A system may keep AMX from a process.
  if (isa == "AVX512_CORE_AMX") {
    CHECK((name == "AMX" || name == "AVX-512 VNNI"));
    // Of a classifier's few images most of AMX's products would be of zeros.
    const std::string of_few = QuadGradient::tiles_for({8, 1, 1, 64}, {10, 64, 1, 1}, {}, 1).name;
    CHECK(of_few == "AVX-512 VNNI");
  }
  if (isa == "SSE41") CHECK(name == "plain");
}

TEST_CASE("the 8-bit gradient of weights equals exact sums", "[gradient][isa]") {
  for_each_tile_set([](const kernels::QuadTiles& tiles) {
    std::uint64_t salt = 0;
    for (const Convolution& c : cases()) {
      INFO(c);
      ++salt;
      const RoundedGradient dy = gradient_of(c, salt, 0.37f);
      for (const Tensor& x : {reference::random_integers<std::uint8_t>(c.x, salt, 0, 255),
                              reference::random_integers<std::uint8_t>(c.x, salt, 0, 15),
                              reference::random_integers<std::int8_t>(c.x, salt, -127, 127)}) {
        QuadGradient gradient(c.x, c.w, c.geometry, 1, {}, tiles);
        gradient.add(0, x, dy);
        CHECK(reference::elements<float>(gradient.sum()) == weight_gradient_plainly(x, dy, c.w, c.geometry));
      }
    }
  });
}

TEST_CASE("one byte above 15 makes an input no nibbles", "[gradient][isa]") {
  const Convolution c{{5, 40, 40, 24}, {8, 24, 1, 1}, {}};
  const Tensor nibbles = reference::random_integers<std::uint8_t>(c.x, 3, 0, 15);
  const RoundedGradient dy = gradient_of(c, 4, 1.0f);
  for_each_tile_set([&](const kernels::QuadTiles& tiles) {
    for (const std::int64_t place : {std::int64_t{0}, nibbles.numel() / 2, nibbles.numel() - 1}) {
      for (const std::uint8_t byte : {16, 255}) {
        Tensor x = nibbles.clone();
        x.mutable_data<std::uint8_t>()[place] = byte;
        QuadGradient gradient(c.x, c.w, c.geometry, 1, {}, tiles);
        gradient.add(0, x, dy);
        CHECK(reference::elements<float>(gradient.sum()) == weight_gradient_plainly(x, dy, c.w, c.geometry));
      }
    }
  });
}

TEST_CASE("the 8-bit gradient of weights does not overflow", "[gradient][isa]") {
  // The largest products there are, more of them than 32 bits hold, and bands of rows.
  const Convolution c{{4, 140, 130, 3}, {2, 3, 3, 3}, {.padding = 1}};
  for_each_tile_set([&](const kernels::QuadTiles& tiles) {
    for (const int sign : {1, -1}) {
      RoundedGradient dy{Tensor::empty(c.y(), DType::s8), 1.0f};
      std::ranges::fill(dy.values.mutable_span<std::int8_t>(), static_cast<std::int8_t>(127 * sign));
      Tensor bytes = Tensor::empty(c.x, DType::u8), nibbles = Tensor::empty(c.x, DType::u8);
      Tensor signs = Tensor::empty(c.x, DType::s8);
      std::ranges::fill(bytes.mutable_span<std::uint8_t>(), std::uint8_t{255});
      std::ranges::fill(nibbles.mutable_span<std::uint8_t>(), std::uint8_t{15});
      std::ranges::fill(signs.mutable_span<std::int8_t>(), std::int8_t{-127});
      for (const Tensor& x : {bytes, nibbles, signs}) {
        QuadGradient gradient(c.x, c.w, c.geometry, 1, {}, tiles);
        gradient.add(0, x, dy);
        CHECK(reference::elements<float>(gradient.sum()) == weight_gradient_plainly(x, dy, c.w, c.geometry));
      }
    }
  });
}

TEST_CASE("lines of pixels are rows that leave few over", "[gradient]") {
  struct {
    Convolution convolution;
    std::int64_t rows_of_line, lines, line_width;
    bool touch;
  } const rows[] = {
      {{{8, 7, 7, 64}, {64, 64, 3, 3}, {.padding = 1}},
       2,
       8,
       16,
       false},                                                   // 7 pixels, 2 between the rows, and 7
      {{{4, 28, 28, 32}, {64, 32, 1, 1}, {}}, 4, 7, 112, true},  // no pixel is left over
      {{{8, 7, 7, 32}, {64, 32, 1, 1}, {}}, 2, 7, 16, false},
      {{{4, 14, 14, 32}, {64, 32, 3, 3}, {.stride = 2, .padding = 1}}, 1, 7, 16, false},
      {{{16, 1, 1, 64}, {10, 64, 1, 1}, {}}, 4, 1, 16, true},  // a classifier
  };
  const kernels::QuadTiles* several = nullptr;
  for (const kernels::QuadTiles& tiles : kernels::quad_tile_sets())
    if (tiles.pixels == 16) several = &tiles;
  if (several == nullptr) return;  // another architecture
  for (const auto& [c, rows_of_line, lines, line_width, touch] : rows) {
    INFO(c);
    const auto grid_with = [&, &c = c](const kernels::QuadTiles& tiles) {
      return kernels::QuadGroup::grid_of(c.y(), kernels::QuadPlan(c.w, c.geometry, tiles), c.geometry);
    };
    const kernels::QuadGrid grid = grid_with(*several);
    CHECK(grid.rows_of_line == rows_of_line);
    CHECK(grid.lines == lines);
    CHECK(grid.line_width == line_width);
    CHECK(grid.lines_touch == touch);
    kernels::QuadGrid::Line line = grid.line(0);
    std::int64_t seen = 0;
    for (std::int64_t i = 0; i < grid.lines; ++i, grid.advance(line)) {
      CHECK(line.first_row == grid.line(i).first_row);
      CHECK(line.rows == grid.line(i).rows);
      CHECK(line.first_row == seen);
      seen += line.rows;
    }
    CHECK(seen == grid.rows);
    // One pixel at a time: a line is a row.
    CHECK(grid_with(kernels::quad_tiles(1)).lines == grid.rows);
    CHECK(grid_with(kernels::quad_tiles(1)).share_of_outputs() == 1);
  }
}

TEST_CASE("bands of rows change no sum", "[gradient][isa]") {
  // Much more than a band of the input, in one unit of 32 bits and in two; and a unit of many narrow rows.
  const Convolution cases[] = {{{9, 40, 90, 64}, {7, 64, 3, 3}, {.padding = 1}},
                               {{17, 40, 90, 20}, {7, 20, 3, 3}, {.padding = 1}},
                               {{3, 17'000, 1, 3}, {5, 3, 3, 1}, {.padding = {1, 0}}}};
  for (const Convolution& c : cases) {
    INFO(c);
    const RoundedGradient dy = gradient_of(c, 4, 0.01f);
    const Tensor x = reference::random_integers<std::uint8_t>(c.x, 5, 0, 15);
    const std::vector<float> plainly = weight_gradient_plainly(x, dy, c.w, c.geometry);
    for_each_tile_set([&](const kernels::QuadTiles& tiles) {
      QuadGradient gradient(c.x, c.w, c.geometry, 1, {}, tiles);
      gradient.add(0, x, dy);
      CHECK(reference::elements<float>(gradient.sum()) == plainly);
    });
  }
}

TEST_CASE("groups of the 8-bit gradient of weights are added in one order", "[gradient]") {
  const Convolution c{{13, 6, 5, 20}, {9, 20, 3, 3}, {.padding = 1}};
  const Tensor x = reference::random_integers<std::uint8_t>(c.x, 6, 0, 255);
  const RoundedGradient dy = gradient_of(c, 7, 1.0f);
  const float scales[] = {0.3f, 0.007f, 1.9f, 0.11f};
  const auto part = [&](std::int64_t g) {
    const std::int64_t last = std::min<std::int64_t>(4 * g + 4, 13);
    return std::pair(x.rows(4 * g, last), RoundedGradient{dy.values.rows(4 * g, last), scales[g]});
  };
  std::vector<std::vector<float>> of_group;
  for (int g = 0; g < 4; ++g) {
    const auto [xs, gs] = part(g);
    of_group.push_back(weight_gradient_plainly(xs, gs, c.w, c.geometry));
  }
  std::vector<float> expected(of_group[0].size());
  for (std::size_t i = 0; i < expected.size(); ++i)
    expected[i] = (of_group[0][i] + of_group[1][i]) + (of_group[2][i] + of_group[3][i]);
  for (const auto& order : {std::vector{0, 1, 2, 3}, std::vector{3, 1, 0, 2}}) {
    for (const int threads : {1, 2, 4}) {
      set_num_threads(threads);
      QuadGradient gradient(c.x, c.w, c.geometry, 4);
      for (const int g : order) {
        const auto [xs, gs] = part(g);
        gradient.add(g, xs, gs);
      }
      CHECK(reference::elements<float>(gradient.sum()) == expected);
    }
  }
  set_num_threads(0);
}

TEST_CASE("the 8-bit gradient of weights takes a factor for each output", "[gradient]") {
  for (const Shape& ws : {Shape{40, 20, 3, 3}, Shape{13, 30, 1, 1}, Shape{1040, 1011, 1, 1}}) {
    for (const std::int64_t groups : {1, 2}) {
      const Convolution c{{4 * groups, 7, 6, ws[1]}, ws, {}};
      const Tensor x = reference::random_integers<std::uint8_t>(c.x, 1, 0, 15);
      const RoundedGradient dy = gradient_of(c, 2, 0.3f);
      const auto sum = [&](const Tensor& factors) {
        QuadGradient gradient(c.x, c.w, c.geometry, groups, factors);
        for (std::int64_t group = 0; group < groups; ++group)
          gradient.add(group, x.rows(4 * group, 4 * group + 4),
                       {dy.values.rows(4 * group, 4 * group + 4), dy.scale});
        return gradient.sum();
      };
      Tensor expected = sum({});
      const Tensor factors = reference::random({ws[0]}, 3, 0.5, 2);
      kernels::scale_rows_in_place(expected, factors);
      CHECK(reference::same_bytes(sum(factors), expected));
      CHECK_THROWS_AS(sum(Tensor::full({ws[0] + 1}, 1.0f)), Error);
    }
  }
}

namespace {

void check_data_gradient(const Convolution& c, std::uint64_t salt) {
  const RoundedGradient dy = gradient_of(c, salt, 0.0123f);
  const Tensor w = reference::random_integers<std::int8_t>(c.w, salt, -127, 127);
  std::vector<std::int64_t> sums(static_cast<std::size_t>(c.x.numel()));
  const auto ws = reference::elements<std::int64_t>(w), gs = reference::elements<std::int64_t>(dy.values);
  reference::for_each_tap(c.x, c.w, c.geometry,
                          [&](auto yi, auto xi, auto wi) { sums[xi] += gs[yi] * ws[wi]; });
  Tensor expected = Tensor::empty(c.x);
  float* values = expected.mutable_data<float>();
  for (std::size_t i = 0; i < sums.size(); ++i) values[i] = static_cast<float>(sums[i]) * 0.0123f;
  for (const Engine engine : {Engine::integer, Engine::simulated}) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      Tensor dx = Tensor::empty(c.x, dtype);
      kernels::conv2d_backward_data_integer(dy, w, c.geometry, engine, dx);
      CHECK(reference::same_bytes(dx, kernels::convert(expected, dtype)));

      const Tensor before = kernels::convert(reference::random(c.x, salt), dtype);
      Tensor sum = before.clone();
      kernels::conv2d_backward_data_integer(dy, w, c.geometry, engine, sum, true);
      CHECK(reference::same_bytes(
          sum, kernels::convert(kernels::add(kernels::convert(before, DType::f32), expected), dtype)));
    }
  }
}

}  // namespace

TEST_CASE("the 8-bit gradient of the data equals exact sums", "[gradient][isa]") {
  std::uint64_t salt = 0;
  int taken = 0;
  for (const Convolution& c : cases()) {
    INFO(c);
    ++salt;
    if (!kernels::suits_integer_data_gradient(c.x, c.w, c.geometry)) continue;
    ++taken;
    check_data_gradient(c, salt);
  }
  CHECK(taken > 50);
}

TEST_CASE("the 8-bit gradient of large images' data is computed by rows", "[gradient][isa]") {
  set_num_threads(1);  // more sums than stay in one thread's cache
  const Convolution large[] = {{{2, 70, 60, 80}, {2, 80, 3, 3}, {.padding = 1}},
                               {{1, 61, 60, 90}, {2, 90, 5, 1}, {.padding = {2, 0, 0, 0}}},
                               {{1, 131, 120, 80}, {2, 80, 3, 3}, {.stride = 2, .padding = 1}},
                               {{1, 90, 50, 70}, {2, 70, 3, 3}, {.padding = 2, .dilation = 2}}};
  for (const Convolution& c : large) {
    INFO(c);
    check_data_gradient(c, 3);
  }
  set_num_threads(0);
}

TEST_CASE("geometries without an 8-bit gradient", "[gradient]") {
  const Shape x{2, 8, 8, 16};
  CHECK_FALSE(QuadGradient::suits(x, {16, 8, 3, 3}, {.padding = 1, .groups = 2}));
  CHECK(QuadGradient::suits(x, {16, 16, 3, 3}, {.padding = 1}));
  CHECK_FALSE(kernels::suits_integer_data_gradient(x, {16, 8, 3, 3}, {.padding = 1, .groups = 2}));
  CHECK_FALSE(
      kernels::suits_integer_data_gradient(x, {16, 16, 3, 3}, {.stride = 2, .padding = 2, .dilation = 2}));
  CHECK_FALSE(kernels::suits_integer_data_gradient(x, {16, 16, 1, 1}, {.padding = 1}));
  CHECK(kernels::suits_integer_data_gradient(x, {16, 16, 3, 3}, {.stride = 2, .padding = 1}));
  // AlexNet's and VGG's first fully connected layer: sums of too many products.
  CHECK_FALSE(kernels::suits_integer_data_gradient({2, 6, 6, 256}, {4096, 256, 6, 6}, {}));
  CHECK_FALSE(kernels::suits_integer_data_gradient({2, 7, 7, 512}, {4096, 512, 7, 7}, {}));
  CHECK(kernels::suits_integer_data_gradient({2, 7, 7, 512}, {1342, 512, 7, 7}, {}));
}

TEST_CASE("what is made of a gradient that is not finite is not finite", "[gradient]") {
  const Convolution c{{1, 4, 4, 16}, {16, 16, 3, 3}, {.padding = 1}};
  const RoundedGradient dy{Tensor::zeros({1, 4, 4, 16}, DType::s8), NAN};
  Tensor dx = Tensor::empty(c.x, DType::bf16);
  kernels::conv2d_backward_data_integer(dy, reference::random_integers<std::int8_t>(c.w, 1, -7, 7),
                                        c.geometry, Engine::integer, dx);
  CHECK(std::isnan(reference::elements<float>(dx)[0]));
  QuadGradient gradient(c.x, c.w, c.geometry, 1);
  gradient.add(0, reference::random_integers<std::uint8_t>(c.x, 1, 0, 9), dy);
  CHECK(std::isnan(gradient.sum().data<float>()[0]));
}
