#include "core/kernels/conv_geometry.h"

#include <sstream>
#include <unordered_set>

#include "tests/catch.h"

using namespace faq;

namespace {

std::string text(const ConvGeometry& geometry) {
  std::ostringstream out;
  out << geometry;
  return out.str();
}

}  // namespace

TEST_CASE("convolution geometry as text", "[conv]") {
  CHECK(text({.kernel = 3, .stride = 2, .padding = 1}) == "3×3, stride 2, padding 1×1");
  CHECK(text({.kernel = {1, 7}, .padding = {0, 3}}) == "1×7, stride 1, padding 0×3");
  CHECK(text({.kernel = 3, .padding = {1, 0, 0, 2}, .dilation = 2, .groups = 4}) ==
        "3×3, stride 1, padding top 1 left 0 bottom 0 right 2, dilation 2×2, 4 groups");
}

TEST_CASE("convolution geometries are equal when every part is", "[conv]") {
  const ConvGeometry rows[] = {{},
                               {.kernel = 3},
                               {.kernel = {3, 1}},
                               {.kernel = {1, 3}},
                               {.stride = 2},
                               {.padding = 1},
                               {.padding = {1, 0}},
                               {.padding = {0, 1}},
                               {.padding = {1, 0, 0, 0}},
                               {.padding = {0, 0, 1, 0}},
                               {.dilation = 2},
                               {.dilation = {2, 1}},
                               {.groups = 2}};
  std::unordered_set<std::size_t> hashes;
  for (const ConvGeometry& a : rows) {
    for (const ConvGeometry& b : rows) CHECK((a == b) == (&a == &b));
    hashes.insert(a.hash());
    CHECK(a.hash() == ConvGeometry(a).hash());
  }
  CHECK(hashes.size() == std::size(rows));
}

TEST_CASE("windows of a convolution", "[conv]") {
  CHECK(ConvGeometry{.padding = 1}.of({8, 4, 3, 5}) == ConvGeometry{.kernel = {3, 5}, .padding = 1});
  CHECK(ConvGeometry{.kernel = {3, 5}}.window() == Extent(3, 5));
  CHECK(ConvGeometry{.kernel = {3, 5}, .dilation = {2, 3}}.window() == Extent(5, 13));
  CHECK(Padding(Extent(1, 2)) == Padding(1, 2, 1, 2));
  CHECK(Padding(1, 2).is_symmetric());
  CHECK_FALSE(Padding(1, 2, 1, 3).is_symmetric());
}

TEST_CASE("TensorFlow's padding \"SAME\"", "[conv]") {
  struct Row {
    Shape images;
    ConvGeometry geometry;
    Padding expected;
  };
  const Row rows[] = {{{1, 224, 224, 3}, {.kernel = 3, .stride = 2}, {0, 0, 1, 1}},
                      {{1, 57, 57, 3}, {.kernel = 3, .stride = 2}, {1, 1, 1, 1}},
                      {{1, 28, 15, 3}, {.kernel = 5, .stride = 2}, {1, 2, 2, 2}},
                      {{1, 7, 7, 3}, {.kernel = 5, .padding = 1}, {2, 2, 2, 2}},  // whatever it was before
                      {{1, 9, 8, 3}, {.kernel = {2, 4}}, {0, 1, 1, 2}},
                      {{1, 8, 9, 3}, {.kernel = 3, .stride = 3}, {0, 0, 1, 0}},
                      {{1, 8, 8, 3}, {.kernel = 1, .stride = 2}, {0, 0, 0, 0}},
                      {{1, 8, 8, 3}, {.kernel = 3, .dilation = 2}, {2, 2, 2, 2}},
                      {{1, 1, 2, 3}, {.kernel = 3, .stride = 2}, {1, 0, 1, 1}}};
  for (const Row& row : rows) {
    INFO(row.images << ", " << row.geometry);
    const ConvGeometry padded = row.geometry.with_same_padding(row.images);
    CHECK(padded.padding == row.expected);
    const Shape y = kernels::conv2d_shape(
        row.images, {1, 3, row.geometry.kernel.height, row.geometry.kernel.width}, padded);
    for (const int side : {1, 2})
      CHECK(y[side] == (row.images[side] + row.geometry.stride - 1) / row.geometry.stride);
  }
  CHECK_THROWS_WITH((ConvGeometry{.kernel = 3}).with_same_padding({3, 3}), Catch::Contains("N,H,W,C"));
}

TEST_CASE("convolution shapes", "[conv]") {
  struct Row {
    Shape x, w;
    ConvGeometry geometry;
    Shape y;
  };
  const Row rows[] = {{{2, 32, 32, 3}, {16, 3, 3, 3}, {.padding = 1}, {2, 32, 32, 16}},
                      {{1, 224, 224, 3}, {64, 3, 7, 7}, {.stride = 2, .padding = 3}, {1, 112, 112, 64}},
                      {{1, 5, 8, 4}, {7, 4, 1, 1}, {.stride = 2}, {1, 3, 4, 7}},
                      {{1, 3, 3, 1}, {1, 1, 3, 3}, {}, {1, 1, 1, 1}},
                      {{1, 6, 6, 1}, {1, 1, 1, 7}, {.padding = 3}, {1, 12, 6, 1}},
                      {{1, 6, 6, 1}, {1, 1, 3, 3}, {.padding = {1, 0, 0, 2}}, {1, 5, 6, 1}},
                      {{1, 8, 8, 1}, {1, 1, 3, 3}, {.dilation = {2, 3}}, {1, 4, 2, 1}},
                      {{1, 4, 4, 6}, {4, 3, 1, 1}, {.groups = 2}, {1, 4, 4, 4}},
                      {{1, 4, 4, 6}, {6, 1, 3, 3}, {.kernel = 3, .padding = 1, .groups = 6}, {1, 4, 4, 6}}};
  for (const Row& row : rows) CHECK(kernels::conv2d_shape(row.x, row.w, row.geometry) == row.y);
}

TEST_CASE("convolution shapes that do not fit", "[conv]") {
  const auto shape = [](const Shape& x, const Shape& w, const ConvGeometry& geometry) {
    return kernels::conv2d_shape(x, w, geometry);
  };
  CHECK_THROWS_WITH(shape({2, 3, 3}, {1, 3, 1, 1}, {}), Catch::Contains("[2, 3, 3]"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {1, 3, 1}, {}), Catch::Contains("O,I,H,W"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {1, 4, 1, 1}, {}), Catch::Contains("3 input channels"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {1, 3, 5, 5}, {}), Catch::Contains("does not fit"));
  CHECK_THROWS_WITH(shape({1, 4, 4, 3}, {1, 3, 3, 3}, {.dilation = 2}), Catch::Contains("does not fit"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {0, 3, 1, 1}, {}), Catch::Contains("no weights"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {1, 3, 1, 1}, {.kernel = 3}),
                    Catch::Contains("a kernel of 3×3") && Catch::Contains("[1, 3, 1, 1]"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 4}, {3, 2, 1, 1}, {.groups = 2}),
                    Catch::Contains("3 output channels in 2 groups"));
  CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {2, 2, 1, 1}, {.groups = 2}),
                    Catch::Contains("3 input channels") && Catch::Contains("want 4"));
  for (const ConvGeometry& senseless :
       {ConvGeometry{.stride = 0}, ConvGeometry{.padding = -1}, ConvGeometry{.padding = {0, 0, 0, -1}},
        ConvGeometry{.dilation = 0}, ConvGeometry{.groups = 0}})
    CHECK_THROWS_WITH(shape({1, 3, 3, 3}, {1, 3, 1, 1}, senseless), Catch::Contains("makes no sense"));
}

TEST_CASE("a filter covers an image of its size without a border", "[conv]") {
  struct Row {
    Shape x, weights;
    ConvGeometry geometry;
    bool covers;
  };
  const Row rows[] = {{{2, 7, 7, 8}, {4, 8, 7, 7}, {}, true},
                      {{2, 3, 5, 8}, {4, 8, 3, 5}, {.stride = 2}, true},
                      {{2, 7, 7, 8}, {4, 8, 7, 6}, {}, false},
                      {{2, 7, 7, 8}, {4, 8, 7, 7}, {.padding = 1}, false},
                      {{2, 7, 7, 8}, {4, 4, 7, 7}, {.groups = 2}, false},
                      {{2, 5, 5, 8}, {4, 8, 5, 5}, {.dilation = 2}, false},
                      {{2, 1, 1, 8}, {4, 8, 1, 1}, {}, false}};  // is a matrix as it is
  for (const Row& row : rows) {
    INFO(row.x << ", " << row.weights << ", " << row.geometry);
    CHECK(kernels::covers_image(row.x, row.weights, row.geometry) == row.covers);
  }
}
