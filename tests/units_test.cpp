#include "nn/units.h"

#include <cmath>

#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

constexpr std::int64_t width = 4096;

// Two dropout layers in a row, by which of a sample's values survive both and which the first.
struct TwoLayers final : Module {
  Dropout first{0.25f}, second{0.25f};
  void visit(Visitor& v) override {
    v.child("first", first);
    v.child("second", second);
  }
};

std::vector<float> masked(Dropout& dropout, std::size_t row, std::size_t rows) {
  const Tensor ones = Tensor::full({static_cast<std::int64_t>(rows), width}, 1.0f);
  const Tensor y = dropout(Var(ones)).value();
  const auto values = y.span<float>().subspan(row * width, width);
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("dropout depends on the sample, not on the batch it is in", "[units]") {
  TwoLayers layers;
  set_training(layers, true);
  set_samples(layers, {.seed = 1, .epoch = 2, .samples = {7, 8, 9}});
  const auto eight = masked(layers.first, 1, 3), nine = masked(layers.first, 2, 3);
  const auto second = masked(layers.second, 1, 3);
  CHECK(eight == masked(layers.first, 1, 3));
  CHECK(eight != nine);
  CHECK(eight != second);
  set_samples(layers, {.seed = 1, .epoch = 2, .samples = {8}});
  CHECK(masked(layers.first, 0, 1) == eight);
  CHECK(masked(layers.second, 0, 1) == second);
  set_samples(layers, {.seed = 1, .epoch = 3, .samples = {8}});
  CHECK(masked(layers.first, 0, 1) != eight);
  set_samples(layers, {.seed = 2, .epoch = 2, .samples = {8}});
  CHECK(masked(layers.first, 0, 1) != eight);

  // p of the values, and the others larger by 1/(1 - p): 4 standard deviations of 4096 draws are 0.027.
  for (const auto& row : {eight, nine, second}) {
    std::int64_t dropped = 0;
    for (const float value : row) {
      dropped += value == 0;
      CHECK((value == 0 || value == Approx(4.0 / 3)));
    }
    CHECK(static_cast<double>(dropped) / width == Approx(0.25).margin(0.027));
  }
}

TEST_CASE("dropout wants to know its samples, in training only", "[units]") {
  TwoLayers layers;
  const Var x(Tensor::full({2, width}, 1.0f));
  set_training(layers, true);
  CHECK_THROWS_WITH(layers.first(x), Catch::Contains("set_samples has not named 2 samples"));
  set_samples(layers, {.seed = 1, .epoch = 0, .samples = {5}});
  CHECK_THROWS_WITH(layers.first(x), Catch::Contains("set_samples has not named 2 samples"));
  layers.first.set_probability(0);
  CHECK(layers.first(x).same_node(x));
  set_training(layers, false);
  CHECK(layers.second(x).same_node(x));
}
