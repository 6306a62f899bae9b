// Convolutions in groups, of one channel or of several. Tagged [isa]: see kernels_conv_test.cpp.
#include "core/cpu.h"
#include "core/kernels/conv.h"
#include "core/kernels/depthwise_gradient.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/weight_gradient.h"
#include "core/parallel.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;
using reference::Convolution;

namespace {

Convolution depthwise(const Shape& x, int height, int width, ConvGeometry geometry) {
  geometry.groups = static_cast<int>(x[3]);
  return {x, {x[3], 1, height, width}, geometry};
}

// Of every kind that networks have, and of kinds that nobody has.
std::vector<Convolution> depthwise_cases() {
  return {depthwise({2, 9, 7, 32}, 3, 3, {.padding = 1}),
          depthwise({2, 9, 8, 48}, 3, 3, {.stride = 2, .padding = 1}),
          depthwise({3, 8, 8, 40}, 3, 3, {.stride = 2, .padding = {0, 0, 1, 1}}),
          depthwise({1, 7, 9, 33}, 5, 5, {.padding = 2}),
          depthwise({2, 8, 8, 72}, 5, 5, {.stride = 2, .padding = {1, 1, 2, 2}}),
          depthwise({1, 13, 12, 16}, 7, 7, {.padding = 3}),
          depthwise({1, 9, 10, 17}, 3, 5, {.padding = {1, 2}}),
          depthwise({1, 12, 11, 8}, 3, 3, {.padding = 2, .dilation = 2}),
          depthwise({2, 11, 10, 5}, 2, 3, {.stride = 3, .padding = {0, 1, 1, 0}}),
          depthwise({1, 10, 10, 4}, 3, 3, {.stride = 5}),  // pixels that no output looks at
          depthwise({1, 1, 1, 64}, 5, 5, {.padding = 2}),  // taps that see nothing but the border
          depthwise({1, 17, 16, 40}, 5, 5, {.padding = 2, .dilation = 2}),
          depthwise({2, 13, 11, 5}, 4, 3, {.stride = 3, .padding = {0, 1, 1, 0}}),
          depthwise({1, 15, 16, 4}, 4, 4, {.stride = 6}),
          depthwise({2, 4, 1, 3}, 1, 1, {})};
}

Convolution random_case(Random& random) {
  const auto up_to = [&](int n) { return 1 + static_cast<int>(random.below(static_cast<std::uint32_t>(n))); };
  const int groups = up_to(6), inputs = up_to(4), outputs = up_to(4), height = up_to(5), width = up_to(5);
  const auto border = [&](int kernel) {
    return static_cast<int>(random.below(static_cast<std::uint32_t>(kernel)));
  };
  const ConvGeometry geometry{.stride = up_to(3),
                              .padding = {border(height), border(width), border(height), border(width)},
                              .groups = groups};
  return {{up_to(3), height + up_to(7), width + up_to(7), groups * inputs},
          {groups * outputs, inputs, height, width},
          geometry};
}

void check_exact(const Tensor& x, const Tensor& w, const ConvGeometry& geometry) {
  const auto expected = reference::conv2d(reference::elements<std::int64_t>(x), x.shape(),
                                          reference::elements<std::int64_t>(w), w.shape(), geometry);
  for (const Engine engine : {Engine::integer, Engine::simulated})
    CHECK(reference::elements<std::int64_t>(kernels::conv2d_integer(x, w, geometry, engine)) == expected);
}

Tensor images(const Shape& shape, DType dtype) {
  if (dtype == DType::u8) return reference::random_integers<std::uint8_t>(shape, 2, 0, 255);
  if (dtype == DType::s8) return reference::random_integers<std::int8_t>(shape, 3, -128, 127);
  return kernels::convert(reference::random(shape, 10), dtype);
}

}  // namespace

TEST_CASE("integer convolution in groups equals 64-bit sums", "[conv][depthwise][isa]") {
  INFO("instruction set " << isa_name());
  std::vector<Convolution> cases = depthwise_cases();
  Random random(3, RandomStream::test, 1);
  for (int i = 0; i < 60; ++i) cases.push_back(random_case(random));
  for (const Convolution& c : cases) {
    INFO(c);
    const Tensor w = reference::random_integers<std::int8_t>(c.w, 1, -127, 127);
    check_exact(images(c.x, DType::u8), w, c.geometry);
    check_exact(images(c.x, DType::s8), w, c.geometry);
  }
}

TEST_CASE("gradients in groups against double", "[conv][depthwise][isa]") {
  std::vector<Convolution> cases = depthwise_cases();
  Random random(3, RandomStream::test, 2);
  for (int i = 0; i < 30; ++i) cases.push_back(random_case(random));
  for (const Convolution& c : cases) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
      if (dtype == DType::bf16 && !has_native_bf16()) continue;
      INFO(dtype << " " << c);
      const Tensor w = kernels::convert(reference::random(c.w, 11), dtype);
      const Tensor dy = kernels::convert(reference::random(c.y(), 12), dtype);
      const auto dyd = reference::numbers(dy);
      CHECK(reference::relative_error(
                kernels::conv2d_backward_data(dy, w, c.x, c.geometry, DType::f32),
                reference::conv2d_dx(dyd, c.x, reference::numbers(w), c.w, c.geometry)) < 3e-6);
      for (const DType x_dtype : {DType::u8, DType::s8, dtype}) {
        INFO("x " << x_dtype);
        const Tensor x = images(c.x, x_dtype);
        CHECK(reference::relative_error(
                  kernels::conv2d_backward_weights(x, dy, c.w, c.geometry),
                  reference::conv2d_dw(dyd, reference::numbers(x), c.x, c.w, c.geometry)) < 3e-6);
      }
    }
  }
}

TEST_CASE("the gradient of depthwise weights does not depend on threads", "[conv][depthwise]") {
  const Convolution c = depthwise({5, 14, 13, 200}, 5, 5, {.stride = 2, .padding = {1, 1, 2, 2}});
  const Tensor x = images(c.x, DType::u8);
  const Tensor dy = reference::random(c.y(), 12);
  set_num_threads(1);
  const Tensor alone = kernels::conv2d_backward_weights(x, dy, c.w, c.geometry);
  for (const int threads : {2, 3, 5, 9}) {
    set_num_threads(threads);
    CHECK(reference::same_bytes(kernels::conv2d_backward_weights(x, dy, c.w, c.geometry), alone));
  }
  set_num_threads(0);
}

TEST_CASE("the gradient of depthwise weights is the sum over the parts of a batch", "[conv][depthwise]") {
  const Convolution c = depthwise({7, 6, 9, 36}, 5, 5, {.padding = 2});
  const Tensor x = images(c.x, DType::s8);
  const Tensor dy = reference::random(c.y(), 12);
  const auto whole =
      reference::conv2d_dw(reference::numbers(dy), reference::numbers(x), c.x, c.w, c.geometry);
  kernels::WeightGradient gradient(c.w, c.geometry, 3);
  gradient.add(x.rows(0, 2), dy.rows(0, 2), 0);
  gradient.add(x.rows(2, 3), dy.rows(2, 3), 2);  // the share between them gets nothing
  gradient.add(x.rows(3, 7), dy.rows(3, 7), 0);
  CHECK(reference::relative_error(gradient.sum(), whole) < 3e-6);
}

TEST_CASE("one large filter for each channel is what suits the depthwise gradient", "[conv][depthwise]") {
  const auto suits = kernels::DepthwiseGradient::suits;
  CHECK(suits({24, 1, 5, 5}, {.groups = 24}));
  CHECK(suits({24, 1, 1, 7}, {.groups = 24}));
  CHECK_FALSE(suits({24, 1, 3, 3}, {.groups = 24}));  // oneDNN is faster
  CHECK_FALSE(suits({48, 1, 5, 5}, {.groups = 24}));  // two filters for each
  CHECK_FALSE(suits({24, 2, 5, 5}, {.groups = 12}));
  CHECK_FALSE(suits({24, 24, 5, 5}, {}));
  CHECK_FALSE(suits({1, 1, 3, 3}, {}));
}
