#include "core/var.h"

#include "core/allocator.h"
#include "core/ops.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

namespace {

Var leaf(std::initializer_list<float> values) {
  return Var(Tensor::from({static_cast<std::int64_t>(values.size())}, values), true);
}

// y = factor·x, keeping `saved` for the backward pass.
Var scaled(const Var& x, float factor, const Tensor& saved = {}) {
  Tensor y = x.value().clone();
  kernels::scale_in_place(y, factor);
  return Var::record("scaled", y, {x}, [factor, saved](const Tensor& dy) -> Grads {
    Tensor dx = dy.clone();
    kernels::scale_in_place(dx, factor);
    return {dx};
  });
}

std::vector<double> grad_of(const Var& v) { return reference::numbers(v.grad()); }

struct Note final : OpInfo {};

}  // namespace

TEST_CASE("gradients of every path through a graph are summed", "[var]") {
  struct Row {
    const char* name;
    std::function<Var(const Var&)> f;
    double dx;
  };
  const Row rows[] = {
      {"the same input twice", [](const Var& x) { return add(x, x); }, 2},
      {"diamond", [](const Var& x) { return add(scaled(x, 3), scaled(x, 5)); }, 8},
      {"skip connection", [](const Var& x) { return add(scaled(scaled(x, 3), 2), x); }, 7},
      {"diamond of diamonds",
       [](const Var& x) {
         const Var y = add(scaled(x, 3), x);
         return add(add(y, scaled(y, 2)), add(x, y));
       },
       17},
      {"one node used five times",
       [](const Var& x) {
         const Var y = scaled(x, 2);
         return add(add(add(y, y), add(y, y)), y);
       },
       10},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const Var x = leaf({1, -2});
    backward(row.f(x), Tensor::from({2}, {1, 10}));
    CHECK(grad_of(x) == std::vector<double>{row.dx, 10 * row.dx});
  }
}

TEST_CASE("summing gradients does not disturb the ones that are shared", "[var]") {
  // add() hands one tensor to both inputs; accumulating into it for x must not change that of y.
  const Var x = leaf({1}), y = leaf({1});
  backward(add(add(x, y), scaled(x, 4)), Tensor::from({1}, {1}));
  CHECK(grad_of(x) == std::vector<double>{5});
  CHECK(grad_of(y) == std::vector<double>{1});

  const Tensor seed = Tensor::from({1}, {1});
  for (int pass = 0; pass < 2; ++pass) backward(scaled(x, 1), seed);
  CHECK(seed.item() == 1);
}

TEST_CASE("an op may add to a sum that only the tape holds", "[var]") {
  std::vector<bool> had_sum;
  // y = factor·x
  const auto adding = [&](const Var& x, float factor) {
    Tensor y = x.value().clone();
    kernels::scale_in_place(y, factor);
    return Var::record_adding("adding", y, {x}, [&, factor](const Tensor& dy, const Grads& sums) -> Grads {
      had_sum.push_back(sums.at(0).defined());
      Tensor dx = dy.clone();
      kernels::scale_in_place(dx, factor);
      if (!sums[0]) return {dx};
      Tensor sum = sums[0];
      kernels::add_in_place(sum, dx);
      return {sum};
    });
  };
  const Tensor seed = Tensor::from({1}, {1});
  const Var x = leaf({1});
  SECTION("the first has none, the others add") {
    backward(add(adding(x, 3), add(adding(x, 5), adding(x, 7))), seed);
    CHECK(had_sum == std::vector{false, true, true});
    CHECK(x.grad().item() == 15);
  }
  SECTION("a gradient that two inputs share is left alone") {
    const Var y = leaf({1}), both = scaled(x, 2);
    // The sum hands one tensor to `both` and y. Then the other op of `both` comes.
    backward(add(adding(both, 5), add(both, y)), seed);
    CHECK(had_sum == std::vector{false});
    CHECK(x.grad().item() == 12);
    CHECK(y.grad().item() == 1);
  }
  SECTION("one that the caller holds is left alone") {
    const Tensor kept = Tensor::from({1}, {4});
    const Var other = Var::record("op", x.value(), {x}, [kept](const Tensor&) -> Grads { return {kept}; });
    backward(add(adding(x, 5), other), seed);
    CHECK(kept.item() == 4);
    CHECK(x.grad().item() == 9);
  }
  SECTION("both of its inputs") {
    const Var other = scaled(x, 2);
    const Var z =
        Var::record_adding("twice", x.value(), {x, x}, [](const Tensor& dy, const Grads& sums) -> Grads {
          Tensor sum = sums.at(0) ? sums[0] : Tensor::zeros({1});
          for (int input = 0; input < 2; ++input) kernels::add_in_place(sum, dy);
          return {sum, sums.at(1) ? sum : Tensor()};
        });
    backward(add(z, other), seed);
    CHECK(x.grad().item() == 4);
  }
  SECTION("a node in the middle") {
    const Var y = scaled(x, 2);
    backward(add(adding(y, 3), scaled(y, 4)), seed);
    CHECK(x.grad().item() == 14);
  }
}

TEST_CASE("leaves accumulate over passes until cleared", "[var]") {
  Var x = leaf({1});
  CHECK_FALSE(x.grad().defined());
  backward(scaled(x, 3));
  backward(scaled(x, 4));
  CHECK(x.grad().item() == 7);
  x.clear_grad();
  CHECK_FALSE(x.grad().defined());
  backward(scaled(x, 5));
  CHECK(x.grad().item() == 5);
  backward(x);
  CHECK(x.grad().item() == 6);
}

TEST_CASE("a leaf takes over a gradient that is nobody else's", "[var]") {
  const void* handed_out = nullptr;
  Tensor kept;
  const auto op = [&](const Var& x, const Tensor& dx) {
    handed_out = dx.raw();
    return Var::record("op", x.value(), {x}, [dx](const Tensor&) -> Grads { return {dx}; });
  };
  const auto ones = [] { return Tensor::from({1}, {1}); };
  const Var x = leaf({1});
  SECTION("made for it") {
    const Var y = op(x, ones());
    backward(y);
    CHECK(x.grad().raw() == handed_out);
  }
  SECTION("kept by somebody") {
    kept = ones();
    const Var y = op(x, kept);
    backward(y);
    CHECK(x.grad().raw() != handed_out);
  }
  SECTION("the seed the caller holds") {
    kept = ones();
    backward(x, kept);
    CHECK(x.grad().raw() != kept.raw());
  }
  SECTION("two leaves, one tensor") {
    const Var y = leaf({1});
    backward(add(x, y), ones());
    CHECK(x.grad().raw() != y.grad().raw());
    CHECK(y.grad().item() == 1);
  }
  CHECK(x.grad().item() == 1);
}

TEST_CASE("backward tells when a leaf's gradient is complete", "[var]") {
  struct Told {
    const void* leaf;
    float grad;
    bool operator==(const Told&) const = default;
  };
  std::vector<Told> told;
  const OnLeaf on_leaf = [&](Var& leaf) { told.push_back({leaf.id(), leaf.grad().item()}); };
  const Var a = leaf({1}), b = leaf({1}), c = leaf({1});
  // Two inputs, with gradients of 3 and 5 times that of the result.
  const auto combine = [](const Var& x, const Var& y) {
    return Var::record("combine", x.value(), {x, y}, [](const Tensor& dz) -> Grads {
      Tensor dx = dz.clone(), dy = dz.clone();
      kernels::scale_in_place(dx, 3);
      kernels::scale_in_place(dy, 5);
      return {dx, dy};
    });
  };
  SECTION("in the order of the tape, whatever the order of the inputs") {
    SECTION("parameters last") { backward(combine(combine(combine(a, b), c), c), on_leaf); }
    SECTION("parameters first") {
      const Var constant(Tensor::from({1}, {1}));
      backward(combine(c, combine(b, combine(a, constant))), on_leaf);
      CHECK(told == std::vector<Told>{{c.id(), 3}, {b.id(), 15}, {a.id(), 75}});
      return;
    }
    CHECK(told == std::vector<Told>{{c.id(), 20}, {a.id(), 27}, {b.id(), 45}});
  }
  SECTION("once, after the last contribution") {
    backward(combine(combine(a, b), combine(combine(b, a), a)), on_leaf);
    CHECK(told.size() == 2);
    CHECK(a.grad().item() == 3 * 3 + 5 * 5 + 5 * 3 * 5);
    CHECK(b.grad().item() == 3 * 5 + 5 * 3 * 3);
    for (const Told& leaf : told) CHECK(leaf.grad == (leaf.leaf == a.id() ? a : b).grad().item());
  }
  SECTION("not for what wants none or gets none") {
    const Var constant(Tensor::from({1}, {1}));
    const Var stopped = Var::record("stop", b.value(), {b, c}, [](const Tensor& dy) -> Grads {
      return {Tensor(), dy};
    });
    backward(combine(combine(a, constant), stopped), on_leaf);
    CHECK(told == std::vector<Told>{{c.id(), 5}, {a.id(), 9}});
    CHECK_FALSE(b.grad().defined());
  }
  SECTION("a node no gradient reaches does not hold up its leaves") {
    const Var unreached = scaled(a, 2);
    const Var stopped = Var::record("stop", b.value(), {b, unreached}, [](const Tensor& dy) -> Grads {
      return {dy, Tensor()};
    });
    backward(combine(combine(a, b), stopped), on_leaf);
    CHECK(told.size() == 2);
    CHECK(a.grad().item() == 9);
    CHECK(b.grad().item() == 15 + 5);
  }
  SECTION("of the root itself") {
    backward(a, on_leaf);
    CHECK(told == std::vector<Told>{{a.id(), 1}});
  }
  SECTION("with what was there before") {
    backward(scaled(a, 2));
    backward(scaled(a, 3), on_leaf);
    CHECK(told == std::vector<Told>{{a.id(), 5}});
  }
}

TEST_CASE("only what wants a gradient gets one", "[var]") {
  const Var x = leaf({1});
  const Var constant(Tensor::from({1}, {2}));
  const Var y = add(scaled(constant, 3), x);
  CHECK(y.requires_grad());
  CHECK_FALSE(scaled(constant, 3).requires_grad());
  CHECK(scaled(constant, 3).inputs().empty());
  backward(y);
  CHECK(x.grad().item() == 1);
  CHECK_FALSE(constant.grad().defined());
}

TEST_CASE("a tape serves once", "[var]") {
  SECTION("from the same root") {
    const Var x = leaf({1});
    const Var y = scaled(scaled(x, 2), 3);
    backward(y);
    CHECK_THROWS_WITH(backward(y), Catch::Contains("used already") && Catch::Contains("scaled"));
    CHECK(x.grad().item() == 6);
  }
  SECTION("from two roots on one trunk") {
    const Var x = leaf({1});
    const Var trunk = scaled(x, 2);
    const Var first = scaled(trunk, 3), second = scaled(trunk, 5);
    backward(first);
    CHECK_THROWS_WITH(backward(second), Catch::Contains("used already"));
  }
  SECTION("new operations on a used node") {
    const Var x = leaf({1});
    const Var trunk = scaled(x, 2);
    backward(scaled(trunk, 3));
    CHECK_THROWS_WITH(backward(scaled(trunk, 5)), Catch::Contains("used already"));
  }
}

TEST_CASE("what backward refuses", "[var]") {
  const Var constant(Tensor::from({1}, {2}));
  CHECK_THROWS_AS(backward(Var()), Error);
  CHECK_THROWS_WITH(backward(constant), Catch::Contains("does not depend"));
  CHECK_THROWS_WITH(backward(leaf({1, 2})), Catch::Contains("needs a seed"));
  CHECK_THROWS_WITH(backward(leaf({1, 2}), Tensor::zeros({3})),
                    Catch::Contains("[3]") && Catch::Contains("[2]"));
  const auto with_grads = [](const Grads& grads) {
    return Var::record("odd", Tensor::from({1}, {1}), {leaf({1})}, [grads](const Tensor&) { return grads; });
  };
  CHECK_THROWS_WITH(backward(with_grads({})),
                    Catch::Contains("'odd'") && Catch::Contains("0 gradients for 1 inputs"));
  CHECK_THROWS_WITH(backward(with_grads({Tensor::zeros({4})})),
                    Catch::Contains("'odd'") && Catch::Contains("[4]"));
}

TEST_CASE("NoGrad records nothing, and ends with its scope", "[var]") {
  const Var x = leaf({1});
  {
    const NoGrad outer;
    { const NoGrad inner; }
    const Var y = Var::record("noted", x.value(), {x}, nullptr, std::make_shared<Note>());
    CHECK(y.op() == std::string("noted"));
    CHECK_FALSE(y.requires_grad());
    CHECK(y.inputs().empty());
    CHECK_FALSE(y.info());
  }
  CHECK(scaled(x, 2).requires_grad());
}

TEST_CASE("EnableGrad records within NoGrad, and ends with its scope", "[var]") {
  const Var x = leaf({1});
  const NoGrad outer;
  {
    const EnableGrad recorded;
    CHECK(scaled(x, 2).requires_grad());
    {
      const NoGrad inner;
      CHECK_FALSE(scaled(x, 2).requires_grad());
    }
    CHECK(scaled(x, 2).requires_grad());
  }
  CHECK_FALSE(scaled(x, 2).requires_grad());
}

TEST_CASE("a default Var has nothing to read", "[var]") {
  Var none;
  CHECK_FALSE(none.defined());
  CHECK_THROWS_WITH(none.value(), Catch::Contains("no value"));
  CHECK_THROWS_AS(none.mutable_value(), Error);
  CHECK_THROWS_AS(none.shape(), Error);
  CHECK_THROWS_AS(none.requires_grad(), Error);
  CHECK_THROWS_AS(none.grad(), Error);
  CHECK_THROWS_AS(none.clear_grad(), Error);
  CHECK_THROWS_AS(none.inputs(), Error);
  CHECK_THROWS_AS(relu(none), Error);
  CHECK_THROWS_AS(topological_order(none), Error);
}

TEST_CASE("nodes with something to tell keep their inputs even without gradients", "[var]") {
  const Var x(Tensor::from({1}, {1}));
  const Var y = Var::record("noted", x.value(), {x}, nullptr, std::make_shared<Note>());
  CHECK_FALSE(y.requires_grad());
  REQUIRE(y.inputs().size() == 1);
  CHECK(y.inputs()[0].same_node(x));
  CHECK(y.info());
}

TEST_CASE("topological order lists inputs first and every node once", "[var]") {
  const Var x = leaf({1});
  const Var a = scaled(x, 2), b = scaled(a, 3), c = add(a, x);
  const Var root = add(b, c);
  const std::vector<Var> order = topological_order(root);
  REQUIRE(order.size() == 5);
  const auto position = [&](const Var& v) {
    return std::ranges::find_if(order, [&](const Var& o) { return o.same_node(v); }) - order.begin();
  };
  for (const Var& node : order) {
    for (const Var& input : node.inputs()) CHECK(position(input) < position(node));
  }
  CHECK(order.back().same_node(root));
}

TEST_CASE("memory is released as the backward pass leaves it behind", "[var]") {
  constexpr std::size_t megabyte = 1 << 20;
  const std::size_t before = memory_stats().in_use;
  const Var x = leaf({1});
  std::vector<std::size_t> in_use;
  Var y = x;
  std::vector<Var> held;  // whoever holds a node holds its value, not its tape
  for (int i = 0; i < 8; ++i) {
    const Tensor saved = Tensor::zeros({static_cast<std::int64_t>(megabyte)}, DType::u8);
    const Var wrapped = scaled(y, 1, saved);
    held.push_back(wrapped);
    y = Var::record("watch", wrapped.value(), {wrapped}, [&in_use](const Tensor& dy) -> Grads {
      in_use.push_back(memory_stats().in_use);
      return {dy};
    });
  }
  CHECK(memory_stats().in_use >= before + 8 * megabyte);
  backward(y);
  REQUIRE(in_use.size() == 8);
  for (std::size_t i = 1; i < in_use.size(); ++i) CHECK(in_use[i] + megabyte <= in_use[i - 1] + 4096);
  CHECK(memory_stats().in_use < before + 4096);
}

TEST_CASE("a tape that is never used is released too", "[var]") {
  const std::size_t before = memory_stats().in_use;
  {
    const Var x = leaf({1});
    scaled(add(scaled(x, 2), x), 3);
  }
  CHECK(memory_stats().in_use == before);
}

TEST_CASE("deep chains do not overflow the stack", "[var]") {
  constexpr int depth = 200'000;
  const Var x = leaf({1});
  const auto chain = [&] {
    Var y = x;
    for (int i = 0; i < depth; ++i) {
      y = Var::record("identity", y.value(), {y}, [](const Tensor& dy) -> Grads { return {dy}; });
    }
    return y;
  };
  SECTION("used") {
    backward(chain());
    CHECK(x.grad().item() == 1);
  }
  SECTION("dropped without a backward pass") {
    chain();
    CHECK_FALSE(x.grad().defined());
  }
  SECTION("an operation fails halfway") {
    Var y = Var::record("fails", x.value(), {chain()},
                        [](const Tensor&) -> Grads { fail(ErrorKind::internal, "on purpose"); });
    CHECK_THROWS_WITH(backward(y), Catch::Contains("on purpose"));
  }
}
