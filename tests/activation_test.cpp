#include "core/activation.h"

#include <sstream>

#include "tests/catch.h"

using namespace faq;

TEST_CASE("activations as values", "[norm]") {
  struct Row {
    Activation activation;
    const char* text;
  };
  const Row rows[] = {{{}, "identity"},
                      {Activation::relu, "relu"},
                      {Activation::relu6, "clip to [0, 6]"},
                      {{-1, 6}, "clip to [-1, 6]"}};
  for (const Row& row : rows) {
    std::ostringstream text;
    text << row.activation;
    CHECK(text.str() == row.text);
    for (const Row& other : rows) {
      CHECK((row.activation == other.activation) == (&row == &other));
      CHECK((row.activation.hash() == other.activation.hash()) == (&row == &other));
    }
  }
  CHECK(Activation{} == Activation::identity);
}

TEST_CASE("what an activation leaves of a format", "[norm]") {
  struct Row {
    Activation activation;
    FixedPoint format;
    float low, high;
  };
  const Row rows[] = {{Activation::identity, {.bits = 8}, 0, 255},
                      {Activation::identity, {.bits = 4, .is_signed = true}, -7, 7},
                      {Activation::relu, {.bits = 4}, 0, 15},
                      {Activation::relu, {.scale = 1e-30f, .bits = 8, .is_signed = true}, 0, 127},
                      {{0, 6}, {.scale = 0.5f, .bits = 8}, 0, 12},
                      {{0, 6}, {.scale = 0.5f, .bits = 3}, 0, 7},
                      {{0, 6}, {.scale = 4, .bits = 8}, 0, 2},  // 1.5, to even
                      {{-1, 2}, {.scale = 0.5f, .bits = 8, .is_signed = true}, -2, 4}};
  for (const Row& row : rows) {
    INFO(row.activation << ", " << row.format);
    const Levels levels = levels_of(row.activation, row.format);
    CHECK(levels.low == row.low);
    CHECK(levels.high == row.high);
  }
}
