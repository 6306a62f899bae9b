#include "core/kernels/exact_addends.h"

#include <cstdlib>
#include <functional>

#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

Tensor filled(const Shape& shape, const std::function<int(std::int64_t)>& value) {
  Tensor t = Tensor::empty(shape, DType::s8);
  const auto values = t.mutable_span<std::int8_t>();
  for (std::int64_t i = 0; i < t.numel(); ++i) values[i] = static_cast<std::int8_t>(value(i));
  return t;
}

}  // namespace

TEST_CASE("exact addends", "[conv][isa]") {
  struct Row {
    Shape shape;
    int largest, max_input, max_magnitude;
    std::size_t parts;  ///< 0: several
  };
  const Row rows[] = {{{4, 3, 3, 3}, 127, 255, 128, 1},
                      {{4, 3, 3, 3}, 127, 255, 64, 2},
                      {{4, 3, 3, 3}, 64, 255, 64, 1},
                      {{4, 64, 3, 3}, 127, 15, 128, 1},
                      {{4, 512, 3, 3}, 127, 255, 128, 0},
                      {{4, 512, 3, 3}, 127, 255, 64, 0},
                      {{4, 512, 3, 3}, 7, 15, 64, 1},
                      {{1, 2048, 1, 1}, 127, 255, 128, 0},
                      {{2, 1, 1, 1}, 0, 255, 64, 1},
                      {{3, 2048, 3, 3}, 127, 255, 64, 0},
                      {{1, kernels::longest_divisible_filter, 1, 1}, 127, 255, 128, 0}};
  for (const Row& row : rows) {
    INFO(row.shape << " up to " << row.largest << ", input " << row.max_input << ", magnitude "
                   << row.max_magnitude);
    const auto largest = static_cast<std::int8_t>(row.largest);
    const Tensor w = filled(row.shape, [&](std::int64_t i) {
      return i % 3 == 1 ? -largest : largest - (i % 11 == 5 && largest);
    });
    const std::vector<Tensor> addends = kernels::exact_addends(w, row.max_input, row.max_magnitude);
    if (row.parts) {
      CHECK(addends.size() == row.parts);
    } else {
      CHECK(addends.size() > 1);
    }
    const std::int64_t length = w.numel() / w.dim(0);
    std::vector<std::int64_t> sum(w.numel());
    for (const Tensor& addend : addends) {
      REQUIRE(addend.shape() == w.shape());
      std::vector<std::int64_t> positive(w.dim(0)), negative(w.dim(0));
      int magnitude = 0;
      for (std::int64_t i = 0; i < w.numel(); ++i) {
        const int part = addend.data<std::int8_t>()[i];
        sum[i] += part;
        (part > 0 ? positive : negative)[i / length] += std::abs(part);
        magnitude = std::max(magnitude, std::abs(part));
      }
      CHECK(magnitude <= row.max_magnitude);
      CHECK(*std::ranges::max_element(positive) * row.max_input < (1 << 24));
      CHECK(*std::ranges::max_element(negative) * row.max_input < (1 << 24));
    }
    CHECK(sum == reference::elements<std::int64_t>(w));
  }
  CHECK_THROWS_AS(
      kernels::exact_addends(filled({1, 1 << 17, 1, 1}, [](std::int64_t) { return 127; }), 255, 128), Error);
}
