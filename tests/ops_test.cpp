#include "core/ops.h"

#include "tests/catch.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("every op takes its gradient in f32 and in bf16", "[ops]") {
  const FixedPoint input{.scale = 1.0f / 64}, weights{.scale = 1.0f / 128, .is_signed = true};
  const Tensor keep = reference::random_integers<std::uint8_t>({2, 4, 4, 3}, 9, 0, 1);
  const std::vector<std::int32_t> labels{1, 0};
  const auto norm_of = [](const Var& gamma, const Var& beta, const Var& bias) {
    NormState norm = norm_state(gamma, beta);
    norm.conv_bias = bias;
    return norm;
  };
  struct Row {
    const char* name;
    std::function<Var(Inputs)> op;
    std::vector<Shape> inputs;
  };
  const Shape image{2, 4, 4, 3}, filter{5, 3, 3, 3};
  const Row rows[] = {
      {"conv2d", [](Inputs in) { return conv2d(in[0], in[1], {.padding = 1}); }, {image, filter}},
      {"conv2d_integer",
       [&](Inputs in) {
         return conv2d_integer(quantize(in[0], input), in[1], kernels::quantize(in[1].value(), weights),
                               {.padding = 1}, Engine::integer, GradFormat::f32);
       },
       {image, filter}},
      {"linear", [](Inputs in) { return linear(in[0], in[1], in[2]); }, {{2, 7}, {5, 7}, {5}}},
      {"linear_integer",
       [&](Inputs in) {
         return linear_integer(quantize(in[0], input), in[1], kernels::quantize(in[1].value(), weights),
                               in[2], Engine::integer, GradFormat::f32);
       },
       {{2, 7}, {5, 7}, {5}}},
      {"norm_act",
       [&](Inputs in) {
         NormState norm = norm_of(in[1], in[2], in[3]);
         return norm_act(in[0], norm, in[4], {.format = {}, .batch_statistics = false});
       },
       {image, {3}, {3}, {3}, image}},
      {"conv_norm_act_integer",
       [&](Inputs in) {
         NormState norm = norm_of(in[2], in[3], in[4]);
         return conv_norm_act_integer(quantize(in[0], input), in[1],
                                      kernels::quantize(in[1].value(), weights), norm, {}, {.padding = 1},
                                      Engine::integer, GradFormat::f32, {.format = {}});
       },
       {image, filter, {5}, {5}, {5}}},
      {"global_avg_pool", [](Inputs in) { return global_avg_pool(in[0]); }, {image}},
      {"max_pool", [](Inputs in) { return max_pool(in[0], {}); }, {image}},
      {"avg_pool", [](Inputs in) { return avg_pool(in[0], {}); }, {image}},
      {"concat_channels", [](Inputs in) { return concat_channels(in); }, {image, image}},
      {"dropout", [&](Inputs in) { return dropout(in[0], keep, 0.5f); }, {image}},
      {"reshape",
       [](Inputs in) {
         return reshape(in[0], {6, 16});
       },
       {image}},
      {"straight_through", [](Inputs in) { return straight_through(in[0], in[0].value()); }, {image}},
      {"to_float", [&](Inputs in) { return to_float(quantize(in[0], input)); }, {image}},
      {"subsample_and_pad", [](Inputs in) { return subsample_and_pad(in[0], 2, 5); }, {image}},
      {"quantize", [&](Inputs in) { return quantize(in[0], input); }, {image}},
      {"relu", [](Inputs in) { return relu(in[0]); }, {image}},
      {"tanh", [](Inputs in) { return tanh(in[0]); }, {image}},
      {"add", [](Inputs in) { return add(in[0], in[1]); }, {image, image}},
      {"scale", [](Inputs in) { return scale(in[0], 0.4f); }, {image}},
      {"cross_entropy", [&](Inputs in) { return cross_entropy(in[0], labels); }, {{2, 4}}},
      {"kl_divergence",
       [](Inputs in) {
         return kl_divergence(in[0], Tensor::zeros({2, 4}));
       },
       {{2, 4}}},
  };
  for (const Row& row : rows) {
    INFO(row.name);
    const auto gradients = [&](DType dtype) {
      std::vector<Var> inputs;
      for (std::size_t i = 0; i < row.inputs.size(); ++i)
        inputs.emplace_back(reference::random(row.inputs[i], 10 + i), true);
      const Var y = row.op(inputs);
      // The same numbers, whatever they are stored in.
      backward(y, kernels::convert(gradient(y.shape(), 20, DType::bf16), dtype));
      return inputs;
    };
    const std::vector<Var> f32 = gradients(DType::f32), bf16 = gradients(DType::bf16);
    for (std::size_t i = 0; i < f32.size(); ++i) {
      INFO("input " << i);
      REQUIRE(f32[i].grad().defined());
      REQUIRE(bf16[i].grad().defined());
      CHECK(reference::relative_error(bf16[i].grad(), reference::numbers(f32[i].grad())) < 1.0 / 128);
    }
  }
}

TEST_CASE("no images: nothing, or an error", "[ops]") {
  const Shape none{0, 4, 4, 3};
  const std::function<Var(const Var&)> ops[] = {[](const Var& x) { return relu(x); },
                                                [](const Var& x) { return max_pool(x, {}); },
                                                [](const Var& x) { return avg_pool(x, {}); },
                                                [](const Var& x) { return global_avg_pool(x); },
                                                [](const Var& x) { return subsample_and_pad(x, 2, 5); },
                                                [](const Var& x) {
                                                  NormState norm = norm_state(Var(Tensor::full({3}, 1), true),
                                                                              Var(Tensor::zeros({3}), true));
                                                  return norm_act(x, norm, {}, {.batch_statistics = false});
                                                }};
  for (const auto& op : ops) {
    const Var x(Tensor::empty(none), true);
    const Var y = op(x);
    CHECK(y.shape()[0] == 0);
    backward(y, Tensor::empty(y.shape()));
    CHECK(x.grad().shape() == none);
  }
  Tensor values = Tensor::empty(none, DType::u8), q = Tensor::zeros({5, 3, 3, 3}, DType::s8);
  values.set_fixed_point({});
  q.set_fixed_point({.is_signed = true});
  NormState norm = norm_state(Var(Tensor::full({5}, 1), true), Var(Tensor::zeros({5}), true));
  const Var x(values, true), w(Tensor::zeros({5, 3, 3, 3}), true);
  const auto unit = [&](bool training) {
    return conv_norm_act_integer(x, w, q, norm, {}, {.padding = 1}, Engine::integer, GradFormat::f32,
                                 {.format = FixedPoint{}, .batch_statistics = training});
  };
  CHECK(unit(false).shape() == Shape{0, 4, 4, 5});
  CHECK_THROWS_WITH(backward(unit(false), Tensor::empty({0, 4, 4, 5})), Catch::Contains("no images"));
  CHECK_THROWS_AS(unit(true), Error);
  CHECK_THROWS_AS(cross_entropy(Var(Tensor::empty({0, 3})), {}), Error);
}

TEST_CASE("operations refuse what does not fit together", "[ops]") {
  const Var x(Tensor::zeros({2, 3})), w(Tensor::zeros({4, 3})), b(Tensor::zeros({4}));
  CHECK_THROWS_WITH(linear(x, Var(Tensor::zeros({4, 2})), b),
                    Catch::Contains("[2, 3]") && Catch::Contains("[4, 2]"));
  CHECK_THROWS_WITH(linear(x, w, Var(Tensor::zeros({3}))), Catch::Contains("bias [3]"));
  CHECK_THROWS_WITH(linear_integer(x, w, Tensor::zeros({4, 3}), b, Engine::integer, GradFormat::f32),
                    Catch::Contains("f32"));
  const Var image(Tensor::zeros({1, 2, 2, 3}, DType::u8)), filter(Tensor::zeros({1, 3, 1, 1}));
  Tensor q = Tensor::zeros({1, 3, 1, 1}, DType::s8);
  q.set_fixed_point({.is_signed = true});
  CHECK_THROWS_WITH(conv2d_integer(image, filter, q, {}, Engine::integer, GradFormat::f32),
                    Catch::Contains("no scale"));
  CHECK_THROWS_AS(conv2d_integer(image, filter, Tensor::zeros({1, 3, 3, 3}, DType::s8), {}, Engine::integer,
                                 GradFormat::f32),
                  Error);
  NormState norm{Var(Tensor::zeros({2})), Var(Tensor::zeros({2})), Tensor::zeros({2}), Tensor::zeros({2})};
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 2, 2, 3})), norm, {}, {}), Catch::Contains("3 channels"));
  // One value would do for none but one channel: memory behind it is not ours.
  for (const bool training : {true, false}) {
    const auto refused = [&](const char* what, auto shorten) {
      NormState short_of = norm;
      shorten(short_of);
      CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 2, 2, 2})), short_of, {},
                                 {.format = {}, .batch_statistics = training}),
                        Catch::Contains(std::string("2 channels, ") + what + " has 1 values"));
    };
    refused("gamma", [](NormState& n) { n.gamma = Var(Tensor::zeros({1})); });
    refused("beta", [](NormState& n) { n.beta = Var(Tensor::zeros({1})); });
    refused("the running mean", [](NormState& n) { n.running_mean = Tensor::zeros({1}); });
    refused("the running variance", [](NormState& n) { n.running_variance = Tensor::zeros({1}); });
    refused("the convolution's bias", [](NormState& n) { n.conv_bias = Var(Tensor::zeros({1})); });
  }
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 1, 1, 2})), norm, {}, {}),
                    Catch::Contains("more than one value"));
  CHECK_THROWS_WITH(norm_act(Var(Tensor::zeros({1, 2, 2, 2})), norm, Var(Tensor::zeros({1, 2, 2, 1})), {}),
                    Catch::Contains("residual"));
  CHECK_THROWS_AS(add(x, w), Error);
}
