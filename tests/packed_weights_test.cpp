#include "core/kernels/packed_weights.h"

#include <thread>
#include <vector>

#include "core/allocator.h"
#include "core/cpu.h"
#include "core/kernels/conv.h"
#include "core/kernels/elementwise.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using kernels::PackedWeights;
using kernels::WeightPacker;

namespace {

constexpr Engine engines[] = {Engine::integer, Engine::simulated};

// Of 127, which on every machine need several addends for this many channels, or of 7, which need one.
Tensor weights(const Shape& shape, int largest) {
  return reference::random_integers<std::int8_t>(shape, 9, -largest, largest);
}

bool are_same(const PackedWeights& a, const PackedWeights& b) { return &a.forms() == &b.forms(); }

}  // namespace

TEST_CASE("packed weights give what bare ones do", "[conv][isa]") {
  for (const int largest : {7, 127}) {
    const Tensor w = weights({16, 259, 3, 3}, largest);
    const PackedWeights packed = w;
    CHECK(packed.shape() == w.shape());
    CHECK(packed.dtype() == DType::s8);
    for (const Engine engine : engines) {
      for (int pass = 0; pass < 2; ++pass) {  // made, and used again
        const Tensor x = reference::random_integers<std::uint8_t>({2, 4, 4, 259}, pass, 0, 255);
        CHECK(reference::same_bytes(kernels::conv2d_integer(x, packed, {.padding = 1}, engine),
                                    kernels::conv2d_integer(x, w, {.padding = 1}, engine)));
        const Tensor s = reference::random_integers<std::int8_t>({2, 4, 4, 259}, pass, -128, 127);
        CHECK(reference::same_bytes(kernels::conv2d_integer(s, packed, {.padding = 1}, engine),
                                    kernels::conv2d_integer(s, w, {.padding = 1}, engine)));
      }
    }
  }
}

TEST_CASE("packed weights in other dtypes are the numbers they stand for", "[conv]") {
  const Tensor w = reference::random_fixed_point({5, 3, 3, 3}, 4, {.scale = 0.25f, .is_signed = true});
  const PackedWeights packed = w;
  for (const DType dtype : {DType::f32, DType::bf16}) {
    const PackedWeights converted = packed.as(dtype);
    CHECK(reference::same_bytes(converted.values(), kernels::convert(w, dtype)));
    CHECK(are_same(converted, packed.as(dtype)));
  }
  CHECK(are_same(packed, packed.as(DType::s8)));
  const PackedWeights matrix = w.reshaped({5, 27});
  CHECK(matrix.as(DType::f32).shape() == Shape{5, 27});
  CHECK(matrix.as(DType::f32).filter_shape() == Shape{5, 27, 1, 1});
}

TEST_CASE("a matrix is a filter of one tap", "[conv]") {
  const Tensor w = reference::random({5, 7}, 1), x = reference::random({3, 1, 1, 7}, 2);
  CHECK(PackedWeights(w).filter_shape() == Shape{5, 7, 1, 1});
  CHECK(reference::same_bytes(kernels::conv2d(x, w, {}), kernels::conv2d(x, w.reshaped({5, 7, 1, 1}), {})));
}

TEST_CASE("a default handle holds no weights", "[conv]") {
  const PackedWeights none;
  CHECK_FALSE(none);
  CHECK_THROWS_AS(none.forms(), Error);
  CHECK_THROWS_AS(kernels::conv2d(Tensor::zeros({1, 3, 3, 2}), none, {}), Error);
}

TEST_CASE("weights are packed once for each version of them", "[conv]") {
  Tensor w = weights({16, 16, 3, 3}, 127);
  w.set_fixed_point({.scale = 0.5f, .bits = 8, .is_signed = true});
  const WeightPacker packer;
  const PackedWeights first = packer(w);
  CHECK(are_same(packer(w), first));
  CHECK(are_same(packer(Tensor(w)), first));
  SECTION("written to") {
    w.mutable_data<std::int8_t>()[0] = 3;
    CHECK_FALSE(are_same(packer(w), first));
    CHECK(are_same(packer(w), packer(w)));
  }
  SECTION("other views of them") {
    CHECK_FALSE(are_same(packer(w.rows(0, 8)), first));
    CHECK(packer(w.rows(0, 8)).shape() == Shape{8, 16, 3, 3});
    CHECK(packer(w.rows(8, 16)).values().raw() == w.rows(8, 16).raw());
    CHECK(packer(w.reshaped({32, 8, 3, 3})).shape() == Shape{32, 8, 3, 3});
  }
  SECTION("read otherwise") {
    w.set_fixed_point({.scale = 0.25f, .bits = 8, .is_signed = true});
    CHECK(packer(w).values().fixed_point().scale == 0.25f);
  }
  SECTION("others of the same contents") { CHECK_FALSE(are_same(packer(w.clone()), first)); }
  SECTION("copies of a packer have packed nothing") {
    const WeightPacker copy = packer;
    CHECK_FALSE(are_same(copy(w), first));
    WeightPacker assigned;
    const PackedWeights its_own = assigned(w);
    assigned = packer;
    CHECK_FALSE(are_same(assigned(w), its_own));
    CHECK_FALSE(are_same(assigned(w), first));
  }
}

TEST_CASE("a packer keeps what is asked for again", "[conv]") {
  const Tensor x = reference::random_integers<std::uint8_t>({1, 4, 4, 64}, 8, 0, 255);
  Tensor w = weights({16, 64, 3, 3}, 127);
  const WeightPacker packer;
  const auto use = [&] { kernels::conv2d_integer(x, packer(w), {.padding = 1}, Engine::simulated); };
  use();
  const std::size_t before = memory_stats().in_use;
  w.mutable_data<std::int8_t>()[0] = 1;
  use();  // once for each version: nothing stays
  CHECK(memory_stats().in_use == before);
  use();
  const std::size_t kept = memory_stats().in_use;
  CHECK(kept > before);
  w.mutable_data<std::int8_t>()[0] = 2;
  use();  // the last version was used again, so this one may be
  CHECK(memory_stats().in_use == kept);
  packer.release();
  CHECK(memory_stats().in_use == before);
}

TEST_CASE("weights and all that was made of them die together", "[conv][isa]") {
  const Tensor x = reference::random_integers<std::uint8_t>({1, 4, 4, 259}, 8, 0, 255);
  for (const int largest : {7, 127}) {
    const std::size_t before = memory_stats().in_use;
    {
      const PackedWeights w = weights({16, 259, 3, 3}, largest);
      for (const Engine engine : engines) kernels::conv2d_integer(x, w, {.padding = 1}, engine);
      const Tensor dy = Tensor::zeros({1, 4, 4, 16});
      kernels::conv2d_backward_data(dy, w.as(DType::f32), x.shape(), {.padding = 1}, DType::f32);
    }
    CHECK(memory_stats().in_use == before);
  }
}

TEST_CASE("the backward pass does not keep the layouts of the forward pass", "[conv][isa]") {
  const Tensor x = reference::random_integers<std::uint8_t>({1, 4, 4, 64}, 8, 0, 15);
  const Tensor w = weights({16, 64, 3, 3}, 7);
  PackedWeights packed = w;
  const PackedWeights backward = packed.backward();
  CHECK(backward.values().raw() == w.raw());
  CHECK(are_same(backward, packed.backward()));
  CHECK_FALSE(are_same(backward, packed));
  CHECK(are_same(backward.backward(), backward));
  const std::size_t before = memory_stats().in_use;
  kernels::conv2d_integer(x, packed, {.padding = 1}, Engine::integer);
  CHECK(memory_stats().in_use > before);
  packed = {};
  CHECK(memory_stats().in_use == before);

  const PackedWeights matrix = PackedWeights(weights({8, 3, 2, 2}, 7)).as_matrix();
  CHECK(matrix.backward().filter_shape() == Shape{8, 12, 1, 1});
  CHECK_FALSE(are_same(matrix.backward(), matrix));
}

TEST_CASE("the layouts that kernels have wanted can be made before", "[conv][isa]") {
  const Shape shape{16, 67, 3, 3};  // of no other test
  const Tensor x = reference::random_integers<std::uint8_t>({1, 4, 4, 67}, 8, 0, 15);
  const auto made_by = [](const auto& body) {
    const std::size_t before = memory_stats().in_use;
    body();
    return memory_stats().in_use - before;
  };
  const PackedWeights first = weights(shape, 7), second = weights(shape, 7), third = weights(shape, 7);
  const auto run = [&](const PackedWeights& w) {
    return kernels::conv2d_integer(x, w, {.padding = 1}, Engine::integer);
  };
  CHECK(made_by([&] { first.prepare(DType::u8, 1); }) == 0);  // nobody has wanted one
  const std::size_t layout = made_by([&] { run(first); });
  REQUIRE(layout > 0);
  CHECK(made_by([&] { second.prepare(DType::s8, 1); }) == 0);  // for other images
  CHECK(made_by([&] { second.prepare(DType::u8, 1); }) == layout);
  CHECK(made_by([&] { run(second); }) == 0);
  CHECK(reference::same_bytes(run(second), run(third)));
}

TEST_CASE("threads share packed weights", "[conv]") {
  for (const int largest : {7, 127}) {
    const Tensor w = weights({16, 259, 3, 3}, largest);
    const Tensor x = reference::random_integers<std::int8_t>({1, 5, 5, 259}, 8, -128, 127);
    const Tensor expected = kernels::conv2d_integer(x, w, {.padding = 1}, Engine::integer);
    const WeightPacker packer;
    std::vector<char> is_equal(4);
    std::vector<std::thread> threads;
    for (char& equal : is_equal)
      threads.emplace_back([&] {
        equal = 1;
        for (const Engine engine : engines)
          equal &= static_cast<char>(
              reference::same_bytes(kernels::conv2d_integer(x, packer(w), {.padding = 1}, engine), expected));
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(is_equal == std::vector<char>(4, 1));
  }
}
