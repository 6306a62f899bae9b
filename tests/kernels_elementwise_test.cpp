#include "core/kernels/elementwise.h"

#include <atomic>
#include <bit>
#include <cmath>
#include <limits>
#include <mutex>
#include <stdexcept>

#include "core/cpu.h"
#include "core/kernels/pixels.h"
#include "core/kernels/simd.h"
#include "core/kernels/streamed.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

constexpr float infinity = std::numeric_limits<float>::infinity();

// Around the length of a block, and enough for several threads.
const std::int64_t sizes[] = {0, 1, 7, 2047, 2048, 2049, 40'000};

Tensor bf16_of(std::initializer_list<float> values) {
  return kernels::convert(Tensor::from({static_cast<std::int64_t>(values.size())}, values), DType::bf16);
}

float from_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

}  // namespace

// It was not, on any CPU but one model's, as long as the versions were named by models.
TEST_CASE("loops use the widest vectors of this CPU", "[elementwise]") {
#ifdef FAQ_SIMD_ONE_VERSION
  CHECK(simd_bytes() == 16);
#else
  const bool avx512 = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
                      __builtin_cpu_supports("avx512dq");
  CHECK(simd_bytes() == (avx512 ? 64 : __builtin_cpu_supports("avx2") ? 32 : 16));
#endif
}

TEST_CASE("f32 to bf16 rounds half to even", "[elementwise]") {
  struct Row {
    float x;
    std::uint16_t bits;
  };
  const Row rows[] = {{0.0f, 0x0000},
                      {-0.0f, 0x8000},
                      {1.0f, 0x3F80},
                      {-2.5f, 0xC020},
                      {from_bits(0x3F808000), 0x3F80},  // a tie, down to even
                      {from_bits(0x3F818000), 0x3F82},  // a tie, up to even
                      {from_bits(0x3F808001), 0x3F81},
                      {from_bits(0x3F817FFF), 0x3F81},
                      {from_bits(0x3FFFFFFF), 0x4000},  // carries into the exponent
                      {from_bits(0x7F7FFFFF), 0x7F80},  // the largest float becomes infinite
                      {infinity, 0x7F80},
                      {-infinity, 0xFF80},
                      {from_bits(0x00000001), 0x0000},  // denormals
                      {from_bits(0x00018000), 0x0002}};
  for (const Row& row : rows) {
    INFO(row.x);
    CHECK(bf16_of({row.x}).data<bfloat16>()[0].bits == row.bits);
  }
  for (std::uint32_t nan : {0x7FC00000u, 0x7F800001u, 0xFFFFFFFFu}) {
    const Tensor there = bf16_of({from_bits(nan)});
    CHECK(std::isnan(kernels::convert(there, DType::f32).item()));
  }
}

TEST_CASE("every bf16 survives the way to f32 and back", "[elementwise]") {
  Tensor all = Tensor::empty({65536}, DType::bf16);
  for (int i = 0; i < 65536; ++i) all.mutable_data<bfloat16>()[i].bits = static_cast<std::uint16_t>(i);
  const Tensor back = kernels::convert(kernels::convert(all, DType::f32), DType::bf16);
  int wrong = 0;
  for (int i = 0; i < 65536; ++i) {
    const bool nan = (i & 0x7FFF) > 0x7F80;
    wrong += back.data<bfloat16>()[i].bits != (nan ? i | 0x40 : i);
  }
  CHECK(wrong == 0);
}

TEST_CASE("integers become the numbers they stand for", "[elementwise]") {
  for (const FixedPoint& format : {FixedPoint{.scale = 1.0f / 32}, FixedPoint{.scale = 8, .is_signed = true},
                                   FixedPoint{.scale = 0.5f, .bits = 4}}) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      for (std::int64_t n : sizes) {
        INFO(format << " to " << dtype << ", " << n);
        const Tensor x = reference::random_fixed_point({n}, 1, format);
        const Tensor scaled = kernels::convert(x, dtype), unscaled = kernels::convert_unscaled(x, dtype);
        CHECK(scaled.dtype() == dtype);
        CHECK(reference::numbers(scaled) == reference::numbers(x));
        CHECK(unscaled.dtype() == dtype);
        CHECK(reference::numbers(unscaled) == reference::elements<double>(x));
      }
    }
  }
  const Tensor s32 = Tensor::from<std::int32_t>({3}, std::vector<std::int32_t>{-5, 0, 1 << 24});
  CHECK(reference::numbers(kernels::convert(s32, DType::f32)) == std::vector<double>{-5, 0, 1 << 24});
  CHECK_THROWS_WITH(kernels::convert(s32, DType::s8), Catch::Contains("s8"));
  CHECK_THROWS_AS(kernels::convert_unscaled(s32, DType::u8), Error);
  const Tensor f32 = Tensor::zeros({2});
  CHECK(kernels::convert(f32, DType::f32).same_storage(f32));
}

TEST_CASE("sums", "[elementwise]") {
  for (std::int64_t n : sizes) {
    for (DType left : {DType::f32, DType::bf16}) {
      for (DType right : {DType::f32, DType::bf16}) {
        INFO(n << " " << left << " + " << right);
        const Tensor x = kernels::convert(reference::random({n}, 1), left),
                     y = kernels::convert(reference::random({n}, 2), right);
        Tensor expected = Tensor::empty({n});
        const auto xs = reference::elements<float>(x), ys = reference::elements<float>(y);
        for (std::size_t i = 0; i < xs.size(); ++i) expected.mutable_data<float>()[i] = xs[i] + ys[i];
        expected = kernels::convert(expected, left);
        CHECK(reference::same_bytes(kernels::add(x, y), expected));
        Tensor sum = x.clone();
        kernels::add_in_place(sum, y);
        CHECK(reference::same_bytes(sum, expected));
      }
    }
    Tensor a = reference::random_integers<std::int32_t>({n}, 3, -1'000'000'000, 1'000'000'000);
    const Tensor b = reference::random_integers<std::int32_t>({n}, 4, -1'000'000'000, 1'000'000'000);
    auto expected = reference::elements<std::int64_t>(a);
    const auto bs = reference::elements<std::int64_t>(b);
    for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += bs[i];
    kernels::add_s32_in_place(a, b);
    CHECK(reference::elements<std::int64_t>(a) == expected);
  }
  CHECK_THROWS_WITH(kernels::add(Tensor::zeros({2}), Tensor::zeros({3})),
                    Catch::Contains("[2]") && Catch::Contains("[3]"));
  CHECK_THROWS_AS(kernels::add(Tensor::zeros({2}), Tensor::zeros({2}, DType::s32)), Error);
  Tensor x = Tensor::zeros({2}), integers = Tensor::zeros({2}, DType::s32);
  CHECK_THROWS_AS(kernels::add_in_place(x, Tensor::zeros({1})), Error);
  CHECK_THROWS_AS(kernels::add_s32_in_place(integers, Tensor::zeros({3}, DType::s32)), Error);
}

TEST_CASE("scaling in place", "[elementwise]") {
  for (std::int64_t n : sizes) {
    Tensor x = reference::random({n}, 1);
    std::vector<double> expected = reference::numbers(x);
    for (double& v : expected) v = static_cast<float>(v) * 0.3f;
    kernels::scale_in_place(x, 0.3f);
    CHECK(reference::numbers(x) == expected);
  }
}

TEST_CASE("an average moves towards a value by its share", "[elementwise]") {
  for (std::int64_t n : sizes) {
    Tensor average = reference::random({n}, 1), same = average.clone();
    const Tensor value = reference::random({n}, 2);
    const std::vector<double> before = reference::numbers(average), x = reference::numbers(value);
    kernels::move_towards(average, value, 0.25f);
    const std::vector<double> after = reference::numbers(average);
    for (std::size_t i = 0; i < x.size(); ++i)
      CHECK(after[i] == Approx(before[i] + 0.25 * (x[i] - before[i])).margin(1e-6));
    kernels::move_towards(same, same.clone(), 0.3f);
    CHECK(reference::numbers(same) == before);
  }
  Tensor x = Tensor::zeros({2});
  CHECK_THROWS_AS(kernels::move_towards(x, Tensor::zeros({3}), 0.5f), Error);
}

TEST_CASE("quantize rounds half to even and clips", "[elementwise]") {
  const Tensor x = Tensor::from({14}, {-infinity, -100, -1.25f, -0.75f, -0.25f, 0, 0.25f, 0.75f, 1.25f, 3.4f,
                                       7.5f, 7.75f, 100, infinity});
  const Tensor u4 = kernels::quantize(x, {.scale = 0.5f, .bits = 4});
  CHECK(u4.dtype() == DType::u8);
  CHECK(u4.fixed_point() == FixedPoint{.scale = 0.5f, .bits = 4});
  CHECK(reference::elements<int>(u4) == std::vector<int>{0, 0, 0, 0, 0, 0, 0, 2, 2, 7, 15, 15, 15, 15});
  const Tensor s4 = kernels::quantize(x, {.scale = 0.5f, .bits = 4, .is_signed = true});
  CHECK(s4.dtype() == DType::s8);
  CHECK(reference::elements<int>(s4) == std::vector<int>{-7, -7, -2, -2, 0, 0, 0, 2, 2, 7, 7, 7, 7, 7});
}

TEST_CASE("quantize equals its formula in double", "[elementwise]") {
  for (const FixedPoint& format :
       {FixedPoint{.scale = 1.0f / 64}, FixedPoint{.scale = 1.0f / 32, .is_signed = true},
        FixedPoint{.scale = 0.25f, .bits = 4}, FixedPoint{.scale = 1, .bits = 2, .is_signed = true}}) {
    for (std::int64_t n : sizes) {
      INFO(format << ", " << n);
      Tensor s32 = reference::random_integers<std::int32_t>({n}, 2, -5000, 5000);
      s32.set_fixed_point({.scale = 1.0f / 1024, .bits = 32, .is_signed = true});
      const Tensor inputs[] = {reference::random({n}, 1, -5, 5), s32,
                               reference::random_fixed_point({n}, 3, {.scale = 1.0f / 100})};
      for (const Tensor& x : inputs) {
        std::vector<double> expected = reference::numbers(x);
        for (double& v : expected) {
          v = std::clamp(std::nearbyint(static_cast<float>(v) / static_cast<double>(format.scale)),
                         static_cast<double>(format.min()), static_cast<double>(format.max()));
        }
        CHECK(reference::elements<double>(kernels::quantize(x, format)) == expected);
      }
    }
  }
}

TEST_CASE("quantize_backward passes the closed range", "[elementwise]") {
  struct Row {
    FixedPoint format;
    std::vector<double> passes;
  };
  const float above = std::nextafter(7.5f, 8.0f), below = std::nextafter(-3.5f, -4.0f);
  const Tensor x = Tensor::from({9}, {-9, below, -3.5f, -0.1f, 0, 3.5f, 7.5f, above, 100});
  for (const Row& row : {Row{{.scale = 0.5f, .bits = 4}, {0, 0, 0, 0, 1, 1, 1, 0, 0}},
                         {{.scale = 0.5f, .bits = 4, .is_signed = true}, {0, 0, 1, 1, 1, 1, 0, 0, 0}}}) {
    for (DType dtype : {DType::f32, DType::bf16}) {
      INFO(row.format << " " << dtype);
      const Tensor grad =
          kernels::quantize_backward(kernels::convert(Tensor::full({9}, 1), dtype), x, row.format);
      CHECK(grad.dtype() == dtype);
      CHECK(reference::numbers(grad) == row.passes);
    }
  }
  // An input with a step.
  Tensor s32 = Tensor::from<std::int32_t>({4}, std::vector<std::int32_t>{-1, 0, 30, 31});
  s32.set_fixed_point({.scale = 0.25f, .bits = 32, .is_signed = true});
  CHECK(reference::numbers(kernels::quantize_backward(
            Tensor::full({4}, 2), s32, {.scale = 0.5f, .bits = 4})) == std::vector<double>{0, 2, 2, 0});
  CHECK_THROWS_AS(kernels::quantize_backward(Tensor::zeros({3}), s32, {}), Error);
}

TEST_CASE("relu and its gradient", "[elementwise]") {
  const Tensor x = Tensor::from({5}, {-1, -0.0f, 0, 1e-30f, 2});
  const Tensor y = kernels::relu(x);
  CHECK(reference::numbers(y) == std::vector<double>{0, 0, 0, 1e-30f, 2});
  for (DType dtype : {DType::f32, DType::bf16}) {
    const Tensor dx = kernels::relu_backward(kernels::convert(Tensor::full({5}, 3), dtype), y);
    CHECK(dx.dtype() == dtype);
    CHECK(reference::numbers(dx) == std::vector<double>{0, 0, 0, 3, 3});
  }
  for (std::int64_t n : sizes) {
    const Tensor z = reference::random({n}, 1);
    std::vector<double> expected = reference::numbers(z);
    for (double& v : expected) v = std::max(v, 0.0);
    CHECK(reference::numbers(kernels::relu(z)) == expected);
  }
}

TEST_CASE("finiteness and norms", "[elementwise]") {
  for (std::int64_t n : sizes) {
    const Tensor x = reference::random({n}, 1);
    CHECK(kernels::all_finite(x));
    double squares = 0;
    for (double v : reference::numbers(x)) squares += v * v;
    CHECK(kernels::sum_of_squares(x) == Approx(squares).epsilon(1e-12));
    for (float bad : {infinity, -infinity, NAN}) {
      for (std::int64_t position : {std::int64_t{0}, n / 2, n - 1}) {
        if (n == 0) continue;
        Tensor y = x.clone();
        y.mutable_data<float>()[position] = bad;
        CHECK_FALSE(kernels::all_finite(y));
      }
    }
  }
  CHECK(kernels::all_finite(Tensor::full({3}, std::numeric_limits<float>::max())));
  CHECK(kernels::sum_of_squares(Tensor::full({2}, 1e30f)) == Approx(2e60));
}

TEST_CASE("pixels become the network's input by table", "[elementwise]") {
  const Tensor images = reference::random_integers<std::uint8_t>({2, 37, 61, 3}, 1, 0, 255);
  const std::vector<int> pixels = reference::elements<int>(images);
  const FixedPoint format{.scale = 1.0f / 64, .is_signed = true};
  for (const Tensor& table :
       {reference::random({3, 256}, 2), reference::random_fixed_point({3, 256}, 3, format),
        reference::random_fixed_point({3, 256}, 4, {})}) {
    INFO(table.dtype());
    const Tensor y = kernels::map_pixels(images, table);
    CHECK(y.dtype() == table.dtype());
    CHECK(y.is_fixed_point() == table.is_fixed_point());
    if (y.is_fixed_point()) CHECK(y.fixed_point() == table.fixed_point());
    const std::vector<double> values = reference::elements<double>(table),
                              out = reference::elements<double>(y);
    int wrong = 0;
    for (std::size_t i = 0; i < pixels.size(); ++i)
      wrong += out[i] != values[i % 3 * 256 + static_cast<std::size_t>(pixels[i])];
    CHECK(wrong == 0);
  }
  CHECK_THROWS_AS(kernels::map_pixels(images, Tensor::zeros({1, 256})), Error);
  CHECK_THROWS_AS(kernels::map_pixels(images, Tensor::zeros({3, 255})), Error);
  CHECK_THROWS_AS(kernels::map_pixels(Tensor::zeros({1, 2, 2, 3}), Tensor::zeros({3, 256})), Error);
}

TEST_CASE("parallel_for covers every index once", "[parallel]") {
  for (int threads : {1, 2, 3}) {
    set_num_threads(threads);
    CHECK(num_threads() == threads);
    for (std::int64_t n : {-1, 0, 1, 2, 3, 10, 1000}) {
      for (std::int64_t grain : {0, 1, 3, 10'000}) {
        std::vector<int> hits(static_cast<std::size_t>(std::max<std::int64_t>(n, 0)));
        parallel_for(n, grain, [&](std::int64_t begin, std::int64_t end) {
          for (std::int64_t i = begin; i < end; ++i) ++hits[static_cast<std::size_t>(i)];
        });
        CHECK(std::ranges::all_of(hits, [](int h) { return h == 1; }));
        CHECK(num_threads() == threads);  // whatever the threads were told inside
      }
    }
  }
  set_num_threads(0);
  CHECK(num_threads() >= 1);
}

TEST_CASE("parallel_shares gives each thread one share, or all threads everything", "[parallel]") {
  struct Row {
    int threads;
    std::int64_t n;
    std::size_t shares;
    int threads_inside;
  };
  for (const Row& row : {Row{2, 0, 0, 0}, Row{1, 5, 1, 1}, Row{2, 1, 1, 2}, Row{2, 2, 2, 1}, Row{2, 7, 1, 2},
                         Row{2, 9, 2, 1}, Row{3, 6, 3, 1}, Row{3, 8, 1, 3}, Row{3, 14, 3, 1}}) {
    INFO(row.n << " on " << row.threads << " threads");
    set_num_threads(row.threads);
    std::mutex mutex;
    std::vector<std::pair<std::int64_t, std::int64_t>> shares;
    int threads_inside = 0;
    parallel_shares(row.n, [&](std::int64_t begin, std::int64_t end, int share) {
      const std::lock_guard lock(mutex);
      CHECK(begin == row.n * share / static_cast<std::int64_t>(row.shares));
      shares.emplace_back(begin, end);
      threads_inside = num_threads();
    });
    std::ranges::sort(shares);
    REQUIRE(shares.size() == row.shares);
    if (row.n > 0) CHECK(num_shares(row.n) == static_cast<int>(row.shares));
    CHECK(threads_inside == row.threads_inside);
    std::int64_t covered = 0;
    for (const auto& [begin, end] : shares) {
      CHECK(begin == covered);
      CHECK(end - begin <= row.n / static_cast<std::int64_t>(shares.size()) + 1);
      covered = end;
    }
    CHECK(covered == row.n);
    CHECK(num_threads() == row.threads);
  }
  set_num_threads(0);
}

TEST_CASE("an exception leaves a parallel loop, the first range's first", "[parallel]") {
  for (int threads : {1, 3}) {
    set_num_threads(threads);
    std::atomic<std::int64_t> done = 0;
    const auto body = [&](std::int64_t begin, std::int64_t end, int = 0) {
      done += end - begin;
      if (end == 9 || begin == 0) throw std::runtime_error("from " + std::to_string(begin));
    };
    CHECK_THROWS_WITH(parallel_for(9, 1, [&](auto begin, auto end) { body(begin, end); }), "from 0");
    CHECK(done == 9);
    CHECK_THROWS_WITH(parallel_shares(9, body), "from 0");
  }
  set_num_threads(0);
}

TEST_CASE("what is written past the caches is what is multiplied", "[kernels]") {
  for (const kernels::MultiplyStreamed loop : kernels::streamed_loops()) {
    for (std::int64_t first = 0; first < 17; ++first) {
      for (std::int64_t n = 0; n < 70; ++n) {
        const Tensor from = reference::random({n + 1}, 3, -2, 2);
        Tensor to = Tensor::full({first + n + 20}, 7.0f);
        loop(from.data<float>(), 0.3f, n, to.mutable_data<float>() + first);
        kernels::end_streamed();
        std::int64_t wrong = 0;
        for (std::int64_t i = 0; i < to.numel(); ++i) {
          const bool is_written = i >= first && i < first + n;
          const float expected = is_written ? from.data<float>()[i - first] * 0.3f : 7.0f;
          wrong += to.data<float>()[i] != expected;
        }
        INFO("from " << first << ", " << n);
        REQUIRE(wrong == 0);
      }
    }
  }
}
