#include "core/tensor.h"

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "core/allocator.h"
#include "core/rng.h"
#include "tests/catch.h"

using namespace faq;

namespace {

template <class T>
std::vector<T> values(const Tensor& t) {
  return {t.span<T>().begin(), t.span<T>().end()};
}

bool is_aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 64 == 0; }

}  // namespace

TEST_CASE("shapes", "[tensor]") {
  const Shape empty{}, scalar{1}, image{2, 3, 4, 5};
  CHECK(empty.rank() == 0);
  CHECK(empty.numel() == 1);
  CHECK(scalar.numel() == 1);
  CHECK(image.rank() == 4);
  CHECK(image.numel() == 120);
  CHECK(Shape{2, 0, 3}.numel() == 0);
  CHECK(image[2] == 4);
  CHECK(std::vector<std::int64_t>(image.extents().begin(), image.extents().end()) ==
        std::vector<std::int64_t>{2, 3, 4, 5});
  CHECK(image == Shape{2, 3, 4, 5});
  CHECK_FALSE(image == Shape{2, 3, 5, 4});
  CHECK_FALSE(Shape{1} == Shape{1, 1});
  CHECK(concat(image) == "[2, 3, 4, 5]");
  CHECK(concat(empty) == "[]");
  CHECK_THROWS_WITH((Shape{1, 2, 3, 4, 5}), Catch::Contains("at most 4") && Catch::Contains("5"));
  CHECK_THROWS_WITH((Shape{1, -2}), Catch::Contains("-2"));
}

// A constant expression would not compile if it overflowed.
static_assert(FixedPoint{.bits = 32, .is_signed = true}.max() == 2147483647);

TEST_CASE("fixed-point ranges", "[tensor]") {
  struct Row {
    int bits;
    bool is_signed;
    int min, max;
  };
  for (const Row& row : {Row{8, false, 0, 255},
                         {8, true, -127, 127},
                         {4, false, 0, 15},
                         {4, true, -7, 7},
                         {2, true, -1, 1},
                         {1, false, 0, 1},
                         {31, false, 0, 2147483647},
                         {32, true, -2147483647, 2147483647}}) {
    const FixedPoint format{.bits = row.bits, .is_signed = row.is_signed};
    CHECK(format.min() == row.min);
    CHECK(format.max() == row.max);
  }
  for (const auto& [x, expected] : std::vector<std::pair<float, float>>{
           {0.5f, 0}, {1.5f, 2}, {2.5f, 2}, {-0.5f, 0}, {-1.5f, -2}, {0.50001f, 1}}) {
    CHECK(round_half_even(x) == expected);
    CHECK(round_half_even(static_cast<double>(x)) == expected);
  }
}

TEST_CASE("making tensors", "[tensor]") {
  for (DType dtype : {DType::f32, DType::bf16, DType::s32, DType::s8, DType::u8}) {
    INFO(dtype);
    const Tensor t = Tensor::zeros({2, 3}, dtype);
    CHECK(t.dtype() == dtype);
    CHECK(t.bytes() == 6 * size_of(dtype));
    CHECK(is_aligned(t.raw()));
    const auto* bytes = static_cast<const unsigned char*>(t.raw());
    CHECK(std::all_of(bytes, bytes + t.bytes(), [](unsigned char b) { return b == 0; }));
  }
  CHECK(values<float>(Tensor::full({3}, 2.5f)) == std::vector<float>{2.5f, 2.5f, 2.5f});
  CHECK(values<float>(Tensor::from({2}, {1, 2})) == std::vector<float>{1, 2});
  CHECK(values<std::int8_t>(Tensor::from<std::int8_t>({2}, std::vector<std::int8_t>{-1, 2})) ==
        std::vector<std::int8_t>{-1, 2});
  CHECK_THROWS_WITH(Tensor::from({3}, {1, 2}),
                    Catch::Contains("expected 12 bytes") && Catch::Contains("got 8"));
  CHECK(Tensor::empty({0, 3}).numel() == 0);
  CHECK(Tensor::zeros({0}).defined());
}

TEST_CASE("a default tensor is no tensor", "[tensor]") {
  Tensor none;
  CHECK_FALSE(none.defined());
  CHECK_FALSE(none);
  CHECK_FALSE(none.clone().defined());
  CHECK_THROWS_AS(none.raw(), Error);
  CHECK_THROWS_AS(none.mutable_raw(), Error);
}

TEST_CASE("rows of a tensor are a window on it", "[tensor]") {
  Tensor a = Tensor::from({3, 2}, {1, 2, 3, 4, 5, 6});
  a.set_fixed_point({.scale = 0.5f});
  Tensor last = a.rows(1, 3);
  CHECK(last.shape() == Shape{2, 2});
  CHECK(last.fixed_point().scale == 0.5f);
  CHECK(last.data<float>()[0] == 3);
  last.rows(1, 2).mutable_data<float>()[1] = 9;
  CHECK(a.data<float>()[5] == 9);
  CHECK(last.clone().data<float>()[3] == 9);
  CHECK(a.rows(2, 2).numel() == 0);
  CHECK_THROWS_WITH(a.rows(2, 4), Catch::Contains("[3, 2]"));
  CHECK_THROWS_AS(a.rows(2, 1), Error);
}

TEST_CASE("a place in a block is another tensor on its storage", "[tensor]") {
  Tensor block = Tensor::zeros({16}, DType::u8);
  block.set_fixed_point({.scale = 0.5f, .bits = 8, .is_signed = false});
  Tensor place = block.placed(8, {2}, DType::s32);
  CHECK_FALSE(place.is_fixed_point());
  place.mutable_data<std::int32_t>()[1] = 0x01020304;
  CHECK(block.data<std::uint8_t>()[12] == 4);
  CHECK(block.rows(4, 12).placed(4, {1}, DType::s32).data<std::int32_t>() == place.data<std::int32_t>());
  CHECK_THROWS_AS(block.placed(12, {2}, DType::s32), Error);
  CHECK_THROWS_AS(block.placed(2, {1}, DType::s32), Error);
}

TEST_CASE("handles share, clones do not", "[tensor]") {
  Tensor a = Tensor::from({2, 3}, {1, 2, 3, 4, 5, 6});
  a.set_fixed_point({.scale = 0.5f});
  const Tensor handle = a, row = a.reshaped({6}), copy = a.clone();
  a.mutable_data<float>()[0] = 9;
  CHECK(handle.data<float>()[0] == 9);
  CHECK(row.data<float>()[0] == 9);
  CHECK(copy.data<float>()[0] == 1);
  CHECK(row.same_storage(a));
  CHECK_FALSE(a.is_only_handle());
  CHECK(copy.is_only_handle());
  CHECK_FALSE(copy.same_storage(a));
  CHECK(row.fixed_point().scale == 0.5f);
  CHECK(copy.fixed_point().scale == 0.5f);
  CHECK(copy.shape() == a.shape());
  CHECK_THROWS_WITH(a.reshaped({7}), Catch::Contains("[2, 3]") && Catch::Contains("[7]"));
}

TEST_CASE("typed access checks the type", "[tensor]") {
  Tensor t = Tensor::zeros({2}, DType::u8);
  CHECK_THROWS_WITH(t.data<float>(), Catch::Contains("expected f32, got u8"));
  CHECK_THROWS_AS(t.mutable_data<std::int8_t>(), Error);
  CHECK_THROWS_WITH(t.fixed_point(), Catch::Contains("no scale"));
  CHECK_FALSE(t.is_fixed_point());
}

TEST_CASE("item", "[tensor]") {
  CHECK(Tensor::full({1, 1}, 3).item() == 3);
  CHECK(Tensor::from<std::int32_t>({1}, std::vector<std::int32_t>{-7}).item() == -7);
  CHECK(Tensor::from<std::int8_t>({1}, std::vector<std::int8_t>{-7}).item() == -7);
  CHECK(Tensor::from<std::uint8_t>({1}, std::vector<std::uint8_t>{200}).item() == 200);
  CHECK_THROWS_WITH(Tensor::zeros({2}).item(), Catch::Contains("[2]"));
  CHECK(Tensor::from<bfloat16>({1}, std::vector{bfloat16{0xc0e0}}).item() == -7);
}

TEST_CASE("what differs has another version", "[tensor]") {
  Tensor a = Tensor::zeros({2}), b = Tensor::zeros({2});
  const Tensor handle = a;
  CHECK(a.version() != b.version());
  const std::uint64_t before = a.version();
  CHECK(a.data<float>()[0] == 0);
  CHECK(a.version() == before);
  a.mutable_data<float>()[0] = 1;
  CHECK(a.version() != before);
  CHECK(handle.version() == a.version());
  // However often either was written to.
  while (b.version() < a.version()) b.mutable_raw();
  CHECK(a.version() != b.version());
}

TEST_CASE("the allocator counts, reuses and releases", "[tensor]") {
  release_cached_memory();
  const MemoryStats before = memory_stats();
  reset_peak_memory();
  {
    const Tensor a = Tensor::empty({1000});
    const Tensor b = Tensor::empty({1000});
    CHECK(memory_stats().in_use >= before.in_use + 8000);
    CHECK(memory_stats().in_use <= before.in_use + 9000);  // at most an eighth is wasted
  }
  CHECK(memory_stats().in_use == before.in_use);
  CHECK(memory_stats().peak >= before.in_use + 8000);
  CHECK(memory_stats().reserved >= before.reserved + 8000);

  const std::size_t reserved = memory_stats().reserved;
  {
    const Tensor a = Tensor::empty({1000});
    const Tensor slightly_smaller = Tensor::empty({990});
  }
  CHECK(memory_stats().reserved == reserved);
  release_cached_memory();
  CHECK(memory_stats().reserved == before.reserved);
  {  // memory for large blocks comes in huge pages
    const Tensor a = Tensor::empty({(2 << 20) + 4096}, DType::u8);
    CHECK(memory_stats().reserved == before.reserved + (4 << 20));
  }
  release_cached_memory();
  {  // behind which a vector may be read
    const Tensor a = Tensor::empty({2 << 20}, DType::u8);
    CHECK(memory_stats().reserved == before.reserved + (4 << 20));
  }
  {  // what four blocks were cut from serves one
    std::vector<Tensor> parts(4);
    for (Tensor& part : parts) part = Tensor::empty({1 << 20}, DType::u8);
    const std::size_t of_parts = memory_stats().reserved;
    parts.clear();
    const Tensor whole = Tensor::empty({4 << 20}, DType::u8);
    CHECK(memory_stats().reserved == of_parts);
  }
  release_cached_memory();
  CHECK(memory_stats().reserved == before.reserved);
  reset_peak_memory();
  CHECK(memory_stats().peak == memory_stats().in_use);
}

// Under a sanitizer, too, an allocation that is too large is to fail instead of ending the program.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
extern "C" const char* __tsan_default_options() { return "allocator_may_return_null=1"; }

TEST_CASE("allocations of any size are aligned and their own", "[tensor]") {
  std::vector<std::shared_ptr<std::byte>> blocks;
  const std::size_t sizes[] = {0,       1,       63,      64,      65,      511,     512,
                               513,     1023,    1024,    1025,    4095,    4097,    100'000,
                               491'520, 491'521, 524'287, 524'288, 524'289, 589'824, (1 << 20) + 1};
  for (std::size_t size : sizes) {
    blocks.push_back(allocate(size));
    CHECK(is_aligned(blocks.back().get()));
    std::fill_n(blocks.back().get(), size, static_cast<std::byte>(blocks.size()));
  }
  for (std::size_t i = 0; i < blocks.size(); ++i) {
    const std::byte* block = blocks[i].get();
    CHECK(std::all_of(block, block + sizes[i],
                      [&](std::byte b) { return b == static_cast<std::byte>(i + 1); }));
  }
  CHECK_THROWS_AS(allocate(std::numeric_limits<std::size_t>::max() / 4), std::bad_alloc);
}

TEST_CASE("memory between blocks in use goes back to the system", "[tensor]") {
  release_cached_memory();
  const std::size_t before = memory_stats().reserved;
  constexpr std::size_t size = 4 << 20;
  std::vector<std::shared_ptr<std::byte>> blocks;
  for (int i = 0; i < 3; ++i) blocks.push_back(allocate(size));
  for (const auto& block : blocks) std::fill_n(block.get(), size, std::byte{7});
  blocks[1] = nullptr;
  release_cached_memory();
  CHECK(memory_stats().reserved <= before + 2 * size + 3 * (2 << 20));
  blocks[1] = allocate(size);
  std::fill_n(blocks[1].get(), size, std::byte{8});
  for (const int i : {0, 2})
    CHECK(
        std::all_of(blocks[i].get(), blocks[i].get() + size, [](std::byte b) { return b == std::byte{7}; }));
  blocks.clear();
  release_cached_memory();
  CHECK(memory_stats().reserved == before);
}

TEST_CASE("the allocator serves many threads", "[tensor]") {
  const std::size_t before = memory_stats().in_use;
  std::vector<std::thread> threads;
  std::atomic<int> wrong{0};
  for (int thread = 0; thread < 4; ++thread) {
    threads.emplace_back([&wrong, thread] {
      for (int i = 0; i < 2000; ++i) {
        const auto value = static_cast<float>(thread * 10000 + i);
        const std::int64_t last = i % 50 == 0 ? 400'000 + 1000 * i : i % 300;
        const Tensor t = Tensor::full({last + 1}, value);
        if (t.data<float>()[last / 2] != value || t.data<float>()[last] != value) ++wrong;
      }
    });
  }
  for (std::thread& t : threads) t.join();
  CHECK(wrong == 0);
  CHECK(memory_stats().in_use == before);
}

TEST_CASE("Philox-4x32-10 gives the published values", "[rng]") {
  // Random123's known-answer tests (kat_vectors).
  using Counter = std::array<std::uint32_t, 4>;
  using Key = std::array<std::uint32_t, 2>;
  struct Row {
    Counter counter;
    Key key;
    Counter expected;
  };
  const Row rows[] = {
      {{0, 0, 0, 0}, {0, 0}, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       {0xffffffff, 0xffffffff},
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       {0xa4093822, 0x299f31d0},
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const Row& row : rows) CHECK(philox(row.counter, row.key) == row.expected);
}

TEST_CASE("random sequences are those of the documented addresses", "[rng]") {
  // The same values as fixtures/make_resnet20.py checks for its own implementation.
  Random words(2026, RandomStream::test, 1000);
  for (std::uint32_t expected : {0x09D7E535u, 0x89F523E9u, 0xBA8A82D0u, 0x8713DF8Eu, 0x5FC4CD66u, 0x28E99981u,
                                 0x1BA0FF36u, 0x0CA838D6u, 0x68A3AA99u}) {
    CHECK(words.next_u32() == expected);
  }
  Random uniforms(2026, RandomStream::test, 7, 3);
  for (double expected : {0.25213538964311133, 0.22008522219413318, 0.81874498919017014})
    CHECK(uniforms.uniform() == expected);
  Random normals(2026, RandomStream::test, 0);
  for (double expected :
       {0.36607750706518477, 0.73348621603254982, -0.72067534010132839, -0.91593533249159054}) {
    CHECK(normals.normal() == Approx(expected).epsilon(1e-14));
  }
}

TEST_CASE("every part of the address matters", "[rng]") {
  const auto first = [](auto... address) { return Random(address...).next_u32(); };
  const std::uint32_t base = first(1, RandomStream::test, 2, 3);
  CHECK(base == first(1, RandomStream::test, 2, 3));
  CHECK(base != first(2, RandomStream::test, 2, 3));
  CHECK(base != first(std::uint64_t{1} | std::uint64_t{1} << 32, RandomStream::test, 2, 3));
  CHECK(base != first(1, RandomStream::shuffle, 2, 3));
  CHECK(base != first(1, RandomStream::test, 3, 3));
  CHECK(base != first(1, RandomStream::test, 2, 4));
  CHECK_THROWS_AS(Random(1, RandomStream::test, std::uint64_t{1} << 32), Error);
  CHECK_THROWS_AS(Random(1, RandomStream::test, 0, std::uint64_t{1} << 32), Error);
}

TEST_CASE("draws are distributed as promised", "[rng]") {
  constexpr int n = 100'000;
  Random random(5, RandomStream::test);
  double sum = 0, squares = 0;
  int outside = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform(-2, 4);
    outside += u < -2 || u >= 4;
    sum += u;
    squares += u * u;
  }
  CHECK(outside == 0);
  CHECK(sum / n == Approx(1).margin(0.03));
  CHECK(squares / n - std::pow(sum / n, 2) == Approx(3).margin(0.05));

  sum = squares = 0;
  for (int i = 0; i < n; ++i) {
    const double z = random.normal();
    sum += z;
    squares += z * z;
  }
  CHECK(sum / n == Approx(0).margin(0.02));
  CHECK(squares / n == Approx(1).margin(0.03));

  std::vector<int> counts(7);
  for (int i = 0; i < n; ++i) ++counts.at(random.below(7));
  for (int count : counts) CHECK(count == Approx(n / 7.0).margin(5 * std::sqrt(n / 7.0)));
  CHECK(random.below(1) == 0);
  CHECK_THROWS_AS(random.below(0), Error);
}
