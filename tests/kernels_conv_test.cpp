// Tagged [isa]: ctest runs these again with ONEDNN_MAX_CPU_ISA=AVX2, AVX512_CORE, AVX512_CORE_BF16 and
// AVX512_CORE_AMX.
#include "core/kernels/conv.h"

#include <cstdlib>
#include <functional>

#include "core/allocator.h"
#include "core/cpu.h"
#include "core/kernels/conv_trace.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/exact_addends.h"
#include "core/kernels/paired_gradient.h"
#include "core/kernels/quad_tiles.h"
#include "core/kernels/rounding.h"
#include "core/kernels/signed_images.h"
#include "core/kernels/tiled_gradient.h"
#include "core/kernels/weight_gradient.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using reference::Convolution;

namespace {

// Channels, kernels, strides and paddings all with all; the other extents take turns.
std::vector<Convolution> all_cases() {
  const std::int64_t outputs[] = {1, 4, 16, 17, 33};
  std::vector<Convolution> cases;
  for (std::int64_t channels : {1, 3, 4, 16, 17, 64})
    for (std::int64_t kernel : {1, 3, 5, 7})
      for (int stride : {1, 2})
        for (int padding : {0, 1, 2, 3}) {
          const auto i = static_cast<std::int64_t>(cases.size());
          cases.push_back({{1 + i % 3, 7 + i % 4, 8 + i % 3, channels},
                           {outputs[i % 5], channels, kernel, kernel},
                           {.stride = stride, .padding = padding}});
        }
  // Of one row or one column.
  cases.push_back({{2, 9, 9, 16}, {8, 16, 1, 7}, {.padding = {0, 3}}});
  cases.push_back({{2, 9, 9, 16}, {8, 16, 7, 1}, {.padding = {3, 0}}});
  cases.push_back({{1, 5, 6, 3}, {4, 3, 3, 1}, {.stride = 2, .padding = {1, 0}}});
  cases.push_back({{1, 6, 5, 4}, {5, 4, 2, 3}, {.padding = {0, 2}}});
  // Padded on some sides only.
  cases.push_back({{2, 6, 7, 16}, {16, 16, 3, 3}, {.padding = {1, 0, 0, 2}}});
  cases.push_back({{1, 7, 7, 3}, {4, 3, 3, 3}, {.stride = 2, .padding = {0, 0, 1, 1}}});
  cases.push_back({{9, 5, 7, 1}, {14, 1, 3, 3}, {.padding = {0, 1}}});
  for (const std::int64_t channels : {1, 3, 8, 16})
    for (const int bottom : {0, 1})
      cases.push_back(
          {{2, 7, 12, channels}, {14, channels, 3, 3}, {.stride = 2, .padding = {0, 0, bottom, 1}}});
  // Windows with holes.
  cases.push_back({{2, 9, 8, 16}, {32, 16, 3, 3}, {.padding = 2, .dilation = 2}});
  cases.push_back({{1, 8, 9, 3}, {5, 3, 3, 2}, {.stride = 2, .padding = {1, 0}, .dilation = {2, 3}}});
  // Few pixels and many outputs: kernels choose how many sums they keep in registers.
  for (std::int64_t pixels = 1; pixels <= 9; ++pixels) {
    cases.push_back({{1, 1, pixels, 64}, {512, 64, 1, 1}, {}});
    cases.push_back({{pixels, 1, 1, 64}, {512, 64, 1, 1}, {}});
  }
  // Taps that lie in the border in every window, as in the last stage of a ResNet on images of 32×32.
  cases.push_back({{5, 4, 1, 14}, {2, 14, 2, 2}, {.stride = 3, .padding = {1, 1, 0, 0}}});
  cases.push_back({{3, 2, 2, 64}, {32, 64, 3, 3}, {.stride = 2, .padding = 1}});
  cases.push_back({{2, 1, 1, 32}, {32, 32, 3, 3}, {.padding = 1}});
  cases.push_back({{1, 16, 8, 6}, {6, 6, 1, 1}, {.stride = 2}});
  // Outputs that are no pairs, channels that are no vectors between skipped pixels, and almost full blocks.
  cases.push_back({{2, 6, 10, 20}, {9, 20, 1, 1}, {}});
  cases.push_back({{9, 24, 8, 4}, {16, 4, 1, 1}, {.stride = 2}});
  cases.push_back({{9, 6, 3, 20}, {40, 20, 1, 1}, {.stride = 3}});
  cases.push_back({{1, 7, 8, 254}, {32, 254, 7, 7}, {}});
  // What AMX has been wrong for: strides, and dilation of a single tap.
  cases.push_back({{6, 12, 15, 64}, {192, 64, 1, 3}, {.stride = 3}});
  cases.push_back({{7, 31, 15, 71}, {64, 71, 3, 3}, {.stride = 2, .padding = {0, 1, 1, 1}}});
  cases.push_back({{2, 8, 3, 16}, {12, 16, 1, 1}, {.stride = 2, .padding = {0, 0, 1, 1}}});
  cases.push_back({{4, 7, 7, 117}, {233, 117, 1, 1}, {.dilation = 2}});
  // In groups: two, and one for each channel.
  cases.push_back({{2, 6, 5, 32}, {32, 16, 3, 3}, {.padding = 1, .groups = 2}});
  cases.push_back({{1, 7, 6, 12}, {6, 4, 3, 3}, {.stride = 2, .padding = 1, .groups = 3}});
  cases.push_back({{2, 8, 8, 16}, {16, 1, 3, 3}, {.padding = 1, .groups = 16}});
  cases.push_back({{1, 9, 8, 24}, {24, 1, 3, 3}, {.stride = 2, .padding = 1, .groups = 24}});
  cases.push_back({{1, 9, 8, 6}, {12, 1, 3, 3}, {.padding = 2, .dilation = 2, .groups = 6}});
  return cases;
}

bool equals_reference(const Tensor& y, const Tensor& x, const Tensor& w, const ConvGeometry& options) {
  const auto expected = reference::conv2d(reference::elements<std::int64_t>(x), x.shape(),
                                          reference::elements<std::int64_t>(w), w.shape(), options);
  return y.dtype() == DType::s32 && y.shape() == kernels::conv2d_shape(x.shape(), w.shape(), options) &&
         reference::elements<std::int64_t>(y) == expected;
}

void check_both_engines(const Tensor& x, const Tensor& w, const ConvGeometry& options) {
  CHECK(equals_reference(kernels::conv2d_integer(x, w, options, Engine::integer), x, w, options));
  CHECK(equals_reference(kernels::conv2d_integer(x, w, options, Engine::simulated), x, w, options));
}

template <class T>
Tensor filled(const Shape& shape, const std::function<int(std::int64_t)>& value) {
  Tensor t = Tensor::empty(shape, dtype_of<T>);
  for (std::int64_t i = 0; i < t.numel(); ++i) t.mutable_data<T>()[i] = static_cast<T>(value(i));
  return t;
}

}  // namespace

TEST_CASE("oneDNN keeps to the instruction set it is limited to", "[conv][isa]") {
  const char* limit = std::getenv("ONEDNN_MAX_CPU_ISA");
  if (!limit) return;
  const std::vector<std::string> rising{
      "SSE41", "AVX2", "AVX2_VNNI", "AVX512_CORE", "AVX512_CORE_VNNI", "AVX512_CORE_BF16", "AVX512_CORE_AMX"};
  const auto rank = [&](const std::string& name) { return std::ranges::find(rising, name); };
  INFO(isa_name() << ", limit " << limit);
  REQUIRE(rank(isa_name()) != rising.end());
  REQUIRE(rank(limit) != rising.end());
  CHECK(rank(isa_name()) <= rank(limit));
}

TEST_CASE("integer convolution equals 64-bit sums", "[conv][isa]") {
  INFO("instruction set " << isa_name());
  for (const Convolution& c : all_cases()) {
    INFO(c);
    const Tensor w = reference::random_integers<std::int8_t>(c.w, 1, -127, 127);
    check_both_engines(reference::random_integers<std::uint8_t>(c.x, 2, 0, 255), w, c.geometry);
    check_both_engines(reference::random_integers<std::int8_t>(c.x, 3, -127, 127), w, c.geometry);
  }
}

TEST_CASE("integer convolution of few bits equals 64-bit sums", "[conv][isa]") {
  for (int bits : {1, 2, 4, 6}) {
    INFO("bits " << bits);
    const Tensor w = reference::random_fixed_point({17, 64, 3, 3}, 4,
                                                   {.scale = 0.5f, .bits = bits + 1, .is_signed = true});
    check_both_engines(reference::random_fixed_point({2, 6, 5, 64}, 5, {.scale = 0.25f, .bits = bits}), w,
                       {.padding = 1});
  }
}

TEST_CASE("integer convolution is exact at extreme values", "[conv][isa]") {
  INFO("instruction set " << isa_name());
  // Odd numbers of products, so that sums beyond 2^24 are odd and no f32 could hold them.
  for (std::int64_t channels : {3, 64, 67, 259, 515}) {
    const Shape x{1, 4, 3, channels};
    const Shape w{5, channels, 3, 3};
    struct Pattern {
      const char* name;
      std::function<int(std::int64_t)> weight;
    };
    const Pattern patterns[] = {
        {"all 127", [](std::int64_t) { return 127; }},
        {"all -127", [](std::int64_t) { return -127; }},
        {"all -128", [](std::int64_t) { return -128; }},
        {"all 127 but one", [](std::int64_t i) { return i % 9 == 4 && i / 9 % 7 == 0 ? 126 : 127; }},
        {"alternating", [](std::int64_t i) { return i % 2 ? -127 : 127; }},
        {"65, the first to saturate in 16 bits", [](std::int64_t) { return 65; }},
    };
    for (const Pattern& pattern : patterns) {
      INFO("weights " << pattern.name << ", " << channels << " channels");
      const Tensor weights = filled<std::int8_t>(w, pattern.weight);
      check_both_engines(filled<std::uint8_t>(x, [](std::int64_t) { return 255; }), weights, {.padding = 1});
      check_both_engines(filled<std::uint8_t>(x, [](std::int64_t i) { return i % 5 ? 255 : 254; }), weights,
                         {});
      check_both_engines(filled<std::int8_t>(x, [](std::int64_t) { return 127; }), weights, {.padding = 1});
      check_both_engines(filled<std::int8_t>(x, [](std::int64_t) { return -127; }), weights, {});
      check_both_engines(filled<std::int8_t>(x, [](std::int64_t i) { return i % 2 ? -127 : 127; }), weights,
                         {.padding = 2});
    }
  }
}

// 518·255·127 = 16775430; what is missing to sums around 2^24 comes from three more channels.
TEST_CASE("sums around 2^24 are exact", "[conv][isa]") {
  for (const int missing : {1785, 1786, 1787, 1788, 1789}) {  // 2^24 - 1, 2^24, 2^24 + 1, …
    for (const int sign : {1, -1}) {
      INFO(518 * 255 * 127 + missing << " times " << sign);
      const Tensor x = filled<std::uint8_t>({1, 1, 1, 521}, [&](std::int64_t i) {
        return i < 518 ? 255 : i == 518 ? 14 : i == 519 ? missing - 14 * 127 + 100 : 100;
      });
      const Tensor w = filled<std::int8_t>({16, 521, 1, 1}, [&](std::int64_t i) {
        const std::int64_t channel = i % 521;
        return sign * (channel < 519 ? 127 : channel == 519 ? 1 : -1);
      });
      check_both_engines(x, w, {});
    }
  }
  // On the way to a small sum far beyond it, wherever one half ends: odd, so that f32 would not hold it.
  for (const std::int64_t half : {529, 1031, 2049}) {
    INFO("half of " << 2 * half << " channels");
    const Tensor w = filled<std::int8_t>({32, 2 * half, 1, 1}, [&](std::int64_t i) {
      return i % (2 * half) < half ? 127 - static_cast<int>(i % 3) : -127;
    });
    check_both_engines(filled<std::uint8_t>({1, 3, 3, 2 * half}, [](std::int64_t) { return 255; }), w, {});
    check_both_engines(filled<std::int8_t>({1, 3, 3, 2 * half}, [](std::int64_t) { return 127; }), w, {});
    check_both_engines(filled<std::int8_t>({1, 3, 3, 2 * half}, [](std::int64_t) { return -127; }), w, {});
  }
}

// Signed images are shifted by 128: 1032·128·127 = 16776192 is added to their sums, and subtracted again.
TEST_CASE("sums of shifted images around 2^24 are exact", "[conv][isa]") {
  for (const std::int64_t channels : {1023, 1030, 1031, 1032, 1033, 1034, 1100}) {
    for (const int weight : {127, -127}) {
      for (const int large : {0, 1, 7, 127}) {  // of the first images
        INFO(channels << " channels, weights " << weight << ", images up to " << large);
        const Tensor x = filled<std::int8_t>({1, 3, 3, channels}, [&](std::int64_t i) {
          return static_cast<int>(i % 97 == 0 ? large : i % 3 - 1);
        });
        const Tensor w = filled<std::int8_t>({16, channels, 1, 1}, [&](std::int64_t) { return weight; });
        check_both_engines(x, w, {});
        check_both_engines(x, w, {.padding = 1});
      }
    }
  }
  // With a border and 5×5 the images are a copy that is shifted already.
  const Tensor w = filled<std::int8_t>({16, 41, 5, 5}, [](std::int64_t i) { return i % 41 ? 127 : 126; });
  for (const int large : {1, 2, 5, 127})
    check_both_engines(filled<std::int8_t>({1, 5, 5, 41}, [&](std::int64_t i) { return i % 5 ? -1 : large; }),
                       w, {.padding = 2});
}

TEST_CASE("the largest sum over a window is that of all rectangles of taps", "[conv][isa]") {
  for (const Shape& shape : {Shape{3, 5, 1, 1}, {2, 7, 3, 3}, {4, 1, 1, 7}, {2, 3, 5, 2}}) {
    for (const std::uint64_t seed : {1, 2, 3}) {
      INFO(shape << ", seed " << seed);
      const Tensor w = reference::random_integers<std::int8_t>(shape, seed, -127, 127);
      const std::int64_t height = shape[2], width = shape[3];
      std::int64_t largest = 0;
      for (std::int64_t o = 0; o < shape[0]; ++o)
        for (std::int64_t top = 0; top < height; ++top)
          for (std::int64_t end = top + 1; end <= height; ++end)
            for (std::int64_t left = 0; left < width; ++left)
              for (std::int64_t right = left + 1; right <= width; ++right) {
                std::int64_t sum = 0;
                for (std::int64_t i = 0; i < shape[1]; ++i)
                  for (std::int64_t row = top; row < end; ++row)
                    for (std::int64_t column = left; column < right; ++column)
                      sum += w.data<std::int8_t>()[((o * shape[1] + i) * height + row) * width + column];
                largest = std::max(largest, std::abs(sum));
              }
      CHECK(kernels::largest_window_sum(w) == largest);
    }
  }
}

TEST_CASE("integer convolution follows its weights when they change", "[conv][isa]") {
  const Tensor x = reference::random_integers<std::uint8_t>({1, 4, 4, 16}, 6, 0, 255);
  Tensor w = reference::random_integers<std::int8_t>({16, 16, 3, 3}, 7, -127, 127);
  check_both_engines(x, w, {.padding = 1});
  w.mutable_data<std::int8_t>()[0] = static_cast<std::int8_t>(-w.data<std::int8_t>()[0]);
  check_both_engines(x, w, {.padding = 1});
}

TEST_CASE("the probe goes beyond 2^24 and comes back", "[conv]") {
  constexpr std::int64_t limit = std::int64_t{1} << 24;
  for (const Shape& shape : {Shape{16, 128, 3, 3},
                             {16, 64, 3, 3},
                             {16, 512, 3, 3},
                             {64, 1024, 1, 1},
                             {16, 192, 5, 5},
                             {16, 256, 2, 2},
                             {16, 3, 3, 3}}) {
    INFO("weights " << shape);
    const Tensor probe = kernels::rounding_probe(shape);
    const std::int64_t length = shape.numel() / shape[0];
    std::int64_t beyond = 0, odd = 0;
    for (std::int64_t o = 0; o < shape[0]; ++o) {
      std::int64_t sum = 0;
      for (std::int64_t i = 0; i < length; ++i) {
        const int weight = probe.data<std::int8_t>()[o * length + i];
        CHECK((std::abs(weight) == 126 || std::abs(weight) == 127));
        sum += 255 * weight;
        beyond += sum >= limit;
        odd += sum >= limit && sum % 2 == 1;
      }
      CHECK(std::abs(sum) < limit);
    }
    if (length * 255 * 127 < limit) {
      CHECK(beyond == 0);
      continue;
    }
    CHECK(beyond > 0);
    CHECK(odd > beyond / 4);
  }
}

TEST_CASE("with VNNI, weights that could lead beyond 2^24 are used whole", "[conv]") {
  if (!has_vnni()) {
    WARN("no VNNI on " << isa_name());
    return;
  }
  // Layers of common networks, their weights large, the sums of few inputs small. Signed images are shifted,
  // so weights must not be of one sign.
  const Convolution cases[] = {{{1, 7, 7, 64}, {64, 64, 3, 3}, {.padding = 1}},
                               {{1, 7, 7, 128}, {128, 128, 3, 3}, {.padding = 1}},
                               {{1, 8, 8, 128}, {128, 128, 3, 3}, {.stride = 2, .padding = 1}},
                               {{1, 7, 7, 512}, {512, 512, 3, 3}, {.padding = 1}},
                               {{1, 7, 7, 1024}, {256, 1024, 1, 1}, {}},
                               {{1, 1, 1, 2048}, {1000, 2048, 1, 1}, {}},
                               {{1, 17, 17, 160}, {160, 160, 1, 7}, {.padding = {0, 3}}},
                               {{1, 9, 9, 64}, {192, 64, 5, 5}, {.padding = 2}}};
  for (const Convolution& c : cases) {
    INFO(c);
    const auto calls = [&](const Tensor& x, const Tensor& w) {
      kernels::conv2d_integer(x, w, c.geometry, Engine::integer);  // finds out
      kernels::ConvTrace trace(1);
      kernels::conv2d_integer(x, w, c.geometry, Engine::integer);
      trace.stop();
      std::int64_t count = 0;
      for (const auto& row : trace.measure(1)) count += row.calls;
      return count;
    };
    CHECK(calls(reference::random_integers<std::uint8_t>(c.x, 2, 0, 1),
                filled<std::int8_t>(c.w, [](std::int64_t) { return 127; })) == 1);
    // Kernels for signed images differ between versions of oneDNN; one that rounds on the way needs addends.
    if (!kernels::takes_signed_images(c.geometry) ||
        kernels::rounds_results_alone(c.x, DType::s8, c.w, false, c.geometry))
      CHECK(calls(reference::random_integers<std::int8_t>(c.x, 3, -9, 9),
                  reference::random_integers<std::int8_t>(c.w, 4, -127, 127)) == 1);
    else
      WARN("signed images: the kernel may round partial sums");
  }
}

TEST_CASE("float convolution and its gradients against double", "[conv][isa]") {
  for (const Convolution& c : all_cases()) {
    INFO(c);
    const Shape ys = c.y();
    const Tensor x = reference::random(c.x, 10), w = reference::random(c.w, 11),
                 dy = reference::random(ys, 12);
    const auto xd = reference::numbers(x), wd = reference::numbers(w), dyd = reference::numbers(dy);
    // Roundings of a sum of products, one after the other, add up like a random walk.
    const auto limit = [](std::int64_t products) {
      return std::max(3e-6, 0x1p-24 * std::sqrt(static_cast<double>(products)));
    };
    CHECK(reference::relative_error(kernels::conv2d(x, w, c.geometry),
                                    reference::conv2d(xd, c.x, wd, c.w, c.geometry)) <
          limit(c.w.numel() / c.w[0]));
    CHECK(reference::relative_error(kernels::conv2d_backward_data(dy, w, c.x, c.geometry, DType::f32),
                                    reference::conv2d_dx(dyd, c.x, wd, c.w, c.geometry)) <
          limit(c.w.numel() / c.w[1] / c.geometry.groups));
    CHECK(reference::relative_error(kernels::conv2d_backward_weights(x, dy, c.w, c.geometry),
                                    reference::conv2d_dw(dyd, xd, c.x, c.w, c.geometry)) <
          limit(ys[0] * ys[1] * ys[2]));
  }
}

TEST_CASE("bf16 convolution gradients against double", "[conv][isa]") {
  if (!has_native_bf16()) {
    WARN("no bf16 on " << isa_name());
    return;
  }
  for (const Convolution& c : all_cases()) {
    INFO(c);
    const Shape ys = c.y();
    const auto bf16 = [](const Tensor& t) { return kernels::convert(t, DType::bf16); };
    const Tensor x = bf16(reference::random(c.x, 10)), w = bf16(reference::random(c.w, 11)),
                 dy = bf16(reference::random(ys, 12));
    const auto xd = reference::numbers(x), wd = reference::numbers(w), dyd = reference::numbers(dy);
    const auto dx = reference::conv2d_dx(dyd, c.x, wd, c.w, c.geometry);
    // Inputs are exact and sums are f32: only the stored result is rounded.
    CHECK(reference::relative_error(kernels::conv2d_backward_data(dy, w, c.x, c.geometry, DType::bf16), dx) <
          1.0 / 256);
    CHECK(reference::relative_error(kernels::conv2d_backward_data(dy, w, c.x, c.geometry, DType::f32), dx) <
          3e-6);
    CHECK(reference::relative_error(kernels::conv2d_backward_weights(x, dy, c.w, c.geometry),
                                    reference::conv2d_dw(dyd, xd, c.x, c.w, c.geometry)) < 3e-6);
  }
}

TEST_CASE("gradients of the weights of integers against double", "[conv][isa]") {
  const Convolution c = GENERATE(values<Convolution>({
      {{3, 8, 8, 16}, {16, 16, 3, 3}, {.padding = 1}},               // two copies of the image
      {{2, 7, 9, 32}, {48, 32, 3, 3}, {.padding = 1}},               // the last column has no partner
      {{2, 9, 8, 16}, {32, 16, 3, 3}, {.stride = 2, .padding = 1}},  // three copies
      {{2, 10, 11, 16}, {16, 16, 3, 3}, {.stride = 3}},              // pixels no output looks at
      {{1, 5, 6, 16}, {16, 16, 1, 7}, {.padding = {0, 3}}},          // taps in several passes
      {{1, 6, 5, 32}, {16, 32, 5, 2}, {.padding = {2, 1}}},          // more columns out than in
      {{2, 2, 2, 16},
       {16, 16, 3, 3},
       {.stride = 2, .padding = 2}},  // kernel rows outside the image for some outputs
      {{1, 1, 4, 16}, {16, 16, 3, 3}, {.stride = 2, .padding = 1}},  // and for all
      {{1, 3, 1, 16}, {16, 16, 3, 3}, {.padding = 1}},               // an output of one column
      {{40, 16, 16, 32}, {64, 32, 3, 3}, {.padding = 1}},            // several groups of images
      {{2, 5, 5, 16}, {80, 16, 3, 3}, {.padding = 1}},               // without AMX oneDNN's: many channels
      {{2, 5, 5, 3}, {16, 3, 3, 3}, {.padding = 1}},                 // and few
      {{3, 14, 14, 96}, {40, 96, 1, 1}, {}},                         // in tiles: an odd number of images
      {{5, 15, 15, 70}, {72, 70, 3, 3}, {.stride = 2, .padding = 1, .dilation = 2}},
      {{4, 30, 30, 3}, {64, 3, 7, 7}, {.stride = 2, .padding = 3}},  // rows of the filter
      {{3, 24, 24, 130}, {96, 130, 3, 3}, {.padding = 1}},           // groups of two images
  }));
  const DType gradient_dtype = has_native_bf16() ? DType::bf16 : DType::f32;
  const DType x_dtype = GENERATE_COPY(values({DType::u8, DType::s8, gradient_dtype}));
  INFO(x_dtype << " " << c);
  const Tensor x = x_dtype == DType::u8   ? reference::random_integers<std::uint8_t>(c.x, 10, 0, 255)
                   : x_dtype == DType::s8 ? reference::random_integers<std::int8_t>(c.x, 10, -128, 127)
                                          : kernels::convert(reference::random(c.x, 10), x_dtype);
  const Tensor dy = kernels::convert(reference::random(c.y(), 12), gradient_dtype);
  set_num_threads(2);
  const Tensor dw = kernels::conv2d_backward_weights(x, dy, c.w, c.geometry);
  set_num_threads(1);
  const Tensor alone = kernels::conv2d_backward_weights(x, dy, c.w, c.geometry);
  set_num_threads(0);
  CHECK(reference::relative_error(
            dw, reference::conv2d_dw(reference::numbers(dy), reference::numbers(x), c.x, c.w, c.geometry)) <
        1e-5);  // of up to 10,240 products of either sign, in f32
  if (kernels::PairedGradient::suits(c.w, c.geometry, x_dtype, gradient_dtype) ||
      kernels::TiledGradient::suits(c.x, c.w, c.geometry, x_dtype, gradient_dtype))
    CHECK(reference::same_bytes(alone, dw));
}

TEST_CASE("gradients of weights in tiles of pairs equal plain loops", "[conv][isa]") {
  const auto c = GENERATE(values<Convolution>({
      {{3, 8, 8, 16}, {16, 16, 3, 3}, {.padding = 1}},
      {{4, 9, 8, 16}, {32, 16, 3, 3}, {.stride = 2, .padding = 1}},
      {{3, 9, 9, 96}, {40, 96, 1, 1}, {}},
      {{5, 9, 9, 70}, {20, 70, 3, 3}, {.stride = 2, .padding = 1, .dilation = 2}},
      {{2, 20, 20, 3}, {8, 3, 7, 7}, {.stride = 2, .padding = 3}},
      {{3, 24, 24, 130}, {96, 130, 3, 3}, {.padding = 1}},  // groups of two images
  }));
  for (const kernels::PairTiles& tiles : kernels::pair_tile_sets()) {
    if (!tiles.runs) continue;
    const auto dy = kernels::convert(reference::random(c.y(), 12), DType::bf16);
    for (const DType dtype : {DType::u8, DType::s8, DType::bf16}) {
      INFO(tiles.name << ", " << dtype << ", " << c);
      const Tensor x = dtype == DType::u8   ? reference::random_integers<std::uint8_t>(c.x, 10, 0, 255)
                       : dtype == DType::s8 ? reference::random_integers<std::int8_t>(c.x, 10, -128, 127)
                                            : kernels::convert(reference::random(c.x, 10), dtype);
      const auto expected =
          reference::conv2d_dw(reference::numbers(dy), reference::numbers(x), c.x, c.w, c.geometry);
      kernels::TiledGradient whole(c.w, c.geometry, tiles), first(c.w, c.geometry, tiles),
          second(c.w, c.geometry, tiles);
      whole.add(x, dy);
      CHECK(reference::relative_error(whole.sum(), expected) < 1e-5);
      first.add(x.rows(0, 1), dy.rows(0, 1));
      second.add(x.rows(1, c.x[0]), dy.rows(1, c.x[0]));
      first.add(second);
      CHECK(reference::relative_error(first.sum(), expected) < 1e-5);
    }
  }
}

TEST_CASE("gradients in tiles wherever that is the way", "[conv][isa]") {
  const auto suits = kernels::TiledGradient::suits;
  const Shape images{4, 12, 12, 20}, layer{24, 20, 3, 3};
  const bool here = kernels::pair_tiles() != nullptr;
  if (here) CHECK(has_amx());  // a system may keep AMX from a process
  for (DType x : {DType::u8, DType::s8, DType::bf16}) CHECK(suits(images, layer, {}, x, DType::bf16) == here);
  CHECK(suits(images, layer, {.stride = 2, .dilation = 2}, DType::u8, DType::bf16) == here);
  for (DType dy : {DType::f32, DType::u8, DType::s32}) CHECK_FALSE(suits(images, layer, {}, DType::u8, dy));
  for (DType x : {DType::f32, DType::s16, DType::s32}) CHECK_FALSE(suits(images, layer, {}, x, DType::bf16));
  CHECK_FALSE(suits(images, {24, 5, 3, 3}, {.groups = 4}, DType::u8, DType::bf16));
  CHECK_FALSE(suits(images, {0, 20, 3, 3}, {}, DType::u8, DType::bf16));
  CHECK_FALSE(suits({0, 12, 12, 20}, layer, {}, DType::u8, DType::bf16));
  // Of few images, mostly zeros.
  CHECK_FALSE(suits({2, 1, 1, 64}, {10, 64, 1, 1}, {}, DType::u8, DType::bf16));
  CHECK(suits({1, 12, 12, 20}, layer, {}, DType::u8, DType::bf16) == here);
  CHECK(kernels::TiledGradient::images_together(DType::bf16) == (here ? 2 : 1));
  CHECK(kernels::TiledGradient::images_together(DType::f32) == 1);
}

TEST_CASE("gradients from pairs of pixels wherever that is the way", "[conv][isa]") {
  const auto suits = kernels::PairedGradient::suits;
  const Shape layer{64, 16, 3, 3};
  const bool here = has_native_bf16() && !has_amx();
  for (DType x : {DType::u8, DType::s8, DType::bf16}) CHECK(suits(layer, {}, x, DType::bf16) == here);
  for (DType dy : {DType::f32, DType::u8, DType::s32}) CHECK_FALSE(suits(layer, {}, DType::u8, dy));
  for (DType x : {DType::f32, DType::s16, DType::s32}) CHECK_FALSE(suits(layer, {}, x, DType::bf16));
  for (const Shape& weights : {Shape{64, 24, 3, 3}, Shape{24, 16, 3, 3}, Shape{128, 16, 3, 3},
                               Shape{64, 16, 3, 1}, Shape{0, 16, 3, 3}, Shape{16, 0, 3, 3}})
    CHECK_FALSE(suits(weights, {}, DType::u8, DType::bf16));
  CHECK_FALSE(suits(layer, {.dilation = 2}, DType::u8, DType::bf16));
  CHECK_FALSE(suits(layer, {.groups = 2}, DType::u8, DType::bf16));
}

TEST_CASE("the gradient of the weights of integers is the sum over the parts of a batch", "[conv][isa]") {
  const Shape xs{9, 7, 6, 16}, ws{32, 16, 3, 3};
  const ConvGeometry options{.padding = 1};
  const Tensor x = reference::random_integers<std::uint8_t>(xs, 10, 0, 255);
  const DType dtype = has_native_bf16() ? DType::bf16 : DType::f32;
  const Tensor dy = kernels::convert(reference::random(kernels::conv2d_shape(xs, ws, options), 12), dtype);
  const auto whole = reference::conv2d_dw(reference::numbers(dy), reference::numbers(x), xs, ws, options);
  kernels::WeightGradient gradient(ws, options, 3);
  for (int part = 0; part < 4; ++part) {
    const std::int64_t begin = 9 * part / 4, end = 9 * (part + 1) / 4;
    // One part in the other dtype: both ways meet in one sum.
    gradient.add(x.rows(begin, end), kernels::convert(dy.rows(begin, end), part == 2 ? DType::f32 : dtype),
                 part % 3);
  }
  CHECK(reference::relative_error(gradient.sum(), whole) < 1e-5);
}

TEST_CASE("the gradient of the weights is the sum over the parts of a batch", "[conv][isa]") {
  const Shape xs{9, 7, 6, 5}, ws{4, 5, 3, 3};
  const ConvGeometry options{.stride = 2, .padding = 1};
  const Tensor x = reference::random(xs, 10),
               dy = reference::random(kernels::conv2d_shape(xs, ws, options), 12);
  const auto whole = reference::conv2d_dw(reference::numbers(dy), reference::numbers(x), xs, ws, options);
  const auto summed = [&](int shares, std::initializer_list<std::int64_t> ends) {
    kernels::WeightGradient gradient(ws, options, shares);
    std::int64_t begin = 0;
    int part = 0;
    for (const std::int64_t end : ends) {
      gradient.add(x.rows(begin, end), dy.rows(begin, end), part++ % shares);
      begin = end;
    }
    return gradient.sum();
  };
  for (int shares : {1, 2, 3}) {
    CHECK(reference::relative_error(summed(shares, {4, 8, 9}), whole) < 3e-6);
    CHECK(reference::relative_error(summed(shares, {1, 2, 3, 4, 5, 6, 7, 8, 9}), whole) < 3e-6);
  }
  // In a share that got nothing there is nothing to add; where nobody got anything there is no sum.
  CHECK(reference::relative_error(summed(3, {9}), whole) < 3e-6);
  CHECK_THROWS_AS(summed(2, {}), Error);
}

TEST_CASE("convolution refuses what does not fit", "[conv]") {
  const Tensor x = Tensor::zeros({1, 3, 3, 2}), w = Tensor::zeros({1, 2, 3, 3});
  const Tensor xq = Tensor::zeros({1, 3, 3, 2}, DType::u8), wq = Tensor::zeros({1, 2, 3, 3}, DType::s8);
  CHECK_THROWS_AS(kernels::conv2d_integer(x, wq, {}, Engine::integer), Error);
  CHECK_THROWS_AS(kernels::conv2d_integer(xq, w, {}, Engine::integer), Error);
  CHECK_THROWS_AS(kernels::conv2d(xq, w, {}), Error);
  CHECK_THROWS_AS(kernels::conv2d_backward_data(Tensor::zeros({1, 2, 1, 1}), w, x.shape(), {}, DType::f32),
                  Error);
  CHECK_THROWS_AS(kernels::conv2d_backward_weights(x, Tensor::zeros({1, 2, 1, 1}), w.shape(), {}), Error);
  CHECK_THROWS_WITH(
      kernels::conv2d_backward_weights(xq, Tensor::zeros({1, 1, 1, 1}, DType::s32), w.shape(), {}),
      Catch::Contains("conv2d backward: input u8, gradient s32"));
}
