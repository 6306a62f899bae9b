#include "core/ops.h"

#include "tests/catch.h"
#include "tests/gradcheck.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("conv2d gradient", "[ops][isa]") {
  struct Row {
    Shape x, w;
    ConvGeometry options;
  };
  const Row rows[] = {{{2, 5, 5, 3}, {4, 3, 3, 3}, {.padding = 1}},
                      {{2, 5, 6, 3}, {4, 3, 3, 3}, {.stride = 2, .padding = 1}},
                      {{1, 6, 5, 2}, {3, 2, 1, 1}, {}},
                      {{2, 5, 5, 4}, {3, 4, 1, 1}, {.stride = 2}},
                      {{1, 7, 7, 2}, {2, 2, 5, 5}, {.stride = 2, .padding = 2}},
                      {{1, 8, 8, 1}, {2, 1, 7, 7}, {.stride = 2, .padding = 3}},
                      {{1, 5, 6, 2}, {3, 2, 1, 7}, {.padding = {0, 3}}},
                      {{1, 6, 5, 2}, {2, 2, 3, 1}, {.padding = {1, 0}}}};
  for (const Row& row : rows) {
    INFO("x " << row.x << ", w " << row.w);
    gradcheck([&](Inputs in) { return conv2d(in[0], in[1], row.options); }, {row.x, row.w});
  }
}

TEST_CASE("linear gradient", "[ops][isa]") {
  gradcheck([](Inputs in) { return linear(in[0], in[1], in[2]); }, {{4, 7}, {5, 7}, {5}});
  gradcheck([](Inputs in) { return linear(in[0], in[1], in[2]); }, {{1, 1}, {2, 1}, {2}});
}

TEST_CASE("conv2d_integer: value and gradients", "[ops][isa]") {
  struct Row {
    Shape x, w;
    ConvGeometry options;
    FixedPoint input;
    FixedPoint weights;
  };
  const Row rows[] = {
      {{2, 6, 6, 8},
       {4, 8, 3, 3},
       {.padding = 1},
       {.scale = 1.0f / 16},
       {.scale = 1.0f / 128, .is_signed = true}},
      {{2, 7, 6, 3},
       {5, 3, 7, 7},
       {.stride = 2, .padding = 3},
       {.scale = 1.0f / 32, .is_signed = true},
       {.scale = 1.0f / 128, .is_signed = true}},
      {{1, 5, 5, 16},
       {8, 16, 1, 1},
       {.stride = 2},
       {.scale = 0.5f, .bits = 4},
       {.scale = 0.25f, .bits = 4, .is_signed = true}},
  };
  for (const Row& row : rows) {
    for (const GradFormat& grads : gradient_formats()) {
      INFO("x " << row.x << " " << row.input << ", w " << row.w << " " << row.weights << ", gradient "
                << grads);
      const Var x(reference::random_fixed_point(row.x, 1, row.input), true);
      const Var w(reference::random(row.w, 2), true);
      const Tensor q = kernels::quantize(w.value(), row.weights);
      const std::vector<double> xd = reference::numbers(x.value()), wd = reference::numbers(q);
      for (Engine engine : {Engine::integer, Engine::simulated}) {
        Var input(x.value(), true), master(w.value(), true);
        const Var y = conv2d_integer(input, master, q, row.options, engine, grads);
        CHECK(y.value().dtype() == DType::s32);
        CHECK(reference::numbers(y.value()) == reference::conv2d(xd, row.x, wd, row.w, row.options));
        const Tensor dy = gradient(y.shape(), 3, grads.dtype());
        backward(y, dy);
        const std::vector<double> dyd = reference::numbers(dy);
        CHECK(input.grad().dtype() == grads.dtype());
        CHECK(reference::relative_error(input.grad(),
                                        reference::conv2d_dx(dyd, row.x, wd, row.w, row.options)) <
              tolerance(grads.dtype()));
        CHECK(master.grad().dtype() == DType::f32);
        // Inputs and gradients are exact in bf16, sums are f32.
        CHECK(reference::relative_error(master.grad(),
                                        reference::conv2d_dw(dyd, xd, row.x, row.w, row.options)) < 1e-5);
      }
    }
  }
}

TEST_CASE("conv2d and linear compute their gradients in the format they are given", "[ops][isa]") {
  for (const GradFormat& grads : gradient_formats()) {
    INFO("gradient " << grads);
    const Shape xs{2, 6, 7, 16}, ws{24, 16, 3, 3};
    const ConvGeometry options{.stride = 2, .padding = 1};
    const Var x(reference::random(xs, 1), true), w(reference::random(ws, 2), true);
    const Var y = conv2d(x, w, options, grads);
    const Tensor dy = gradient(y.shape(), 3, grads.dtype());
    backward(y, dy);
    const std::vector<double> dyd = reference::numbers(dy), xd = reference::numbers(x.value()),
                              wd = reference::numbers(w.value());
    CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dyd, xs, wd, ws, options)) <
          tolerance(grads.dtype()));
    CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dyd, xd, xs, ws, options)) <
          tolerance(grads.dtype()));
    CHECK(w.grad().dtype() == DType::f32);

    const Shape as_image{6, 1, 1, 33}, as_filter{10, 33, 1, 1};
    const Var a(reference::random({6, 33}, 4), true), m(reference::random({10, 33}, 5), true),
        b(reference::random({10}, 6), true);
    const Var z = linear(a, m, b, grads);
    const Tensor dz = gradient(z.shape(), 7, grads.dtype());
    backward(z, dz);
    const std::vector<double> dzd = reference::numbers(dz), ad = reference::numbers(a.value()),
                              md = reference::numbers(m.value());
    CHECK(reference::relative_error(a.grad(), reference::conv2d_dx(dzd, as_image, md, as_filter, {})) <
          tolerance(grads.dtype()));
    CHECK(reference::relative_error(m.grad(), reference::conv2d_dw(dzd, ad, as_image, as_filter, {})) <
          tolerance(grads.dtype()));
    CHECK(m.grad().dtype() == DType::f32);
  }
}

TEST_CASE("conv2d and linear multiply what they are given, rounded to their operands' format", "[ops][isa]") {
  if (!has_native_bf16()) return;
  const auto rounded = [](const Var& x) {
    return reference::numbers(kernels::convert(x.value(), DType::bf16));
  };
  const Shape xs{2, 6, 7, 16}, ws{24, 16, 3, 3};
  const ConvGeometry options{.stride = 2, .padding = 1};
  const Shape as_image{6, 1, 1, 33}, as_filter{10, 33, 1, 1};
  for (const GradFormat& grads : {GradFormat::f32, GradFormat::bf16}) {
    for (const bool packed : {false, true}) {
      INFO("gradient " << grads << ", packed " << packed);
      const Var x(reference::random(xs, 1), true), w(reference::random(ws, 2), true);
      const auto handle = [&](const Var& of) {
        return packed ? kernels::PackedWeights(of.value()) : kernels::PackedWeights();
      };
      const std::vector<double> xd = rounded(x), wd = rounded(w);
      const Var y = conv2d(x, w, options, grads, handle(w), DType::bf16);
      CHECK(y.value().dtype() == DType::f32);
      CHECK(reference::relative_error(y.value(), reference::conv2d(xd, xs, wd, ws, options)) < 1e-5);
      const Tensor dy = gradient(y.shape(), 3, grads.dtype());
      backward(y, dy);
      const std::vector<double> dyd = reference::numbers(dy);
      CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dyd, xs, wd, ws, options)) <
            tolerance(grads.dtype()));
      CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dyd, xd, xs, ws, options)) < 1e-5);
      CHECK(w.grad().dtype() == DType::f32);

      const Var a(reference::random({6, 33}, 4), true), m(reference::random({10, 33}, 5), true),
          b(reference::random({10}, 6), true);
      const std::vector<double> ad = rounded(a), md = rounded(m);
      const Var z = linear(a, m, b, grads, handle(m), DType::bf16);
      std::vector<double> expected = reference::conv2d(ad, as_image, md, as_filter, {});
      for (std::size_t i = 0; i < expected.size(); ++i) expected[i] += b.value().data<float>()[i % 10];
      CHECK(z.value().dtype() == DType::f32);
      CHECK(reference::relative_error(z.value(), expected) < 1e-5);
      const Tensor dz = gradient(z.shape(), 7, grads.dtype());
      backward(z, dz);
      const std::vector<double> dzd = reference::numbers(dz);
      CHECK(reference::relative_error(a.grad(), reference::conv2d_dx(dzd, as_image, md, as_filter, {})) <
            tolerance(grads.dtype()));
      CHECK(reference::relative_error(m.grad(), reference::conv2d_dw(dzd, ad, as_image, as_filter, {})) <
            1e-5);
    }
  }
}

TEST_CASE("linear_integer: value and gradients", "[ops][isa]") {
  const FixedPoint weights{.scale = 1.0f / 64, .bits = 8, .is_signed = true};
  for (const FixedPoint& format :
       {FixedPoint{.scale = 1.0f / 16}, FixedPoint{.scale = 1.0f / 16, .is_signed = true}}) {
    for (const GradFormat& grads : gradient_formats()) {
      INFO(format << ", gradient " << grads);
      const Shape xs{6, 1, 1, 33}, ws{10, 33, 1, 1};
      const Var x(reference::random_fixed_point({6, 33}, 1, format), true);
      const Var w(reference::random({10, 33}, 2), true), b(reference::random({10}, 3), true);
      const Tensor q = kernels::quantize(w.value(), weights);
      const std::vector<double> xd = reference::numbers(x.value()), wd = reference::numbers(q);
      const Var y = linear_integer(x, w, q, b, Engine::integer, grads);
      CHECK(reference::same_bytes(y.value(), linear_integer(x, w, q, b, Engine::simulated, grads).value()));
      std::vector<double> expected = reference::conv2d(xd, xs, wd, ws, {});
      for (std::size_t i = 0; i < expected.size(); ++i) {
        expected[i] = static_cast<float>(expected[i] + b.value().data<float>()[i % 10]);
      }
      CHECK(reference::numbers(y.value()) == expected);
      const Tensor dy = gradient({6, 10}, 4, grads.dtype());
      backward(y, dy);
      const std::vector<double> dyd = reference::numbers(dy);
      CHECK(reference::relative_error(x.grad(), reference::conv2d_dx(dyd, xs, wd, ws, {})) <
            tolerance(grads.dtype()));
      CHECK(reference::relative_error(w.grad(), reference::conv2d_dw(dyd, xd, xs, ws, {})) < 1e-5);
      std::vector<double> db(10);
      for (std::size_t i = 0; i < dyd.size(); ++i) db[i % 10] += dyd[i];
      CHECK(reference::relative_error(b.grad(), db) < 1e-5);
    }
  }
}
