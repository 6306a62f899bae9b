#include "core/ops.h"

#include "core/kernels/norm.h"
#include "tests/catch.h"
#include "tests/gradcheck.h"
#include "tests/ops_common.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("norm_act gradient", "[ops]") {
  for (bool training : {true, false}) {
    INFO("training " << training);
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, {},
                          {.activation = Activation::identity, .format = {}, .batch_statistics = training});
        },
        {{3, 4, 3, 5}, {5}, {5}});
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, in[3],
                          {.activation = Activation::identity, .format = {}, .batch_statistics = training});
        },
        {{2, 4, 3, 3}, {3}, {3}, {2, 4, 3, 3}});
    // |γ·x̂| > 2|β|: no value near ReLU's kink.
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, {}, {.format = {}, .batch_statistics = training});
        },
        {{3, 4, 3, 5}, {5}, {5}}, {.away_from_zero = 0.8, .scales = {1, 1, 0.2}});
    // The residual decides the sign.
    gradcheck(
        [&](Inputs in) {
          NormState norm = norm_state(in[1], in[2]);
          return norm_act(in[0], norm, in[3], {.format = {}, .batch_statistics = training});
        },
        {{2, 4, 3, 3}, {3}, {3}, {2, 4, 3, 3}}, {.away_from_zero = 0.8, .scales = {1, 0.5, 0.2, 2}});
  }
  // The input has got gradients from other ops, and from being the residual, too.
  gradcheck(
      [](Inputs in) {
        NormState norm = norm_state(in[1], in[2]);
        const NormActOptions options{.activation = Activation::identity, .format = {}};
        const Var both = add(norm_act(in[0], norm, in[0], options), norm_act(in[0], norm, {}, options));
        return add(both, scale(in[0], 0.5f));
      },
      {{3, 4, 3, 5}, {5}, {5}});
  // Only constant statistics leave something of a convolution's bias.
  gradcheck(
      [](Inputs in) {
        NormState norm = norm_state(in[1], in[2]);
        norm.conv_bias = in[3];
        return norm_act(in[0], norm, {},
                        {.activation = Activation::identity, .format = {}, .batch_statistics = false});
      },
      {{3, 4, 3, 5}, {5}, {5}, {5}});
}

TEST_CASE("the bias of a convolution in front of a normalisation", "[ops]") {
  // As if it were added: the mean of the batch takes it away, the running mean keeps it.
  const Tensor x = reference::random({3, 4, 4, 5}, 1), bias = reference::random({5}, 2, -3, 3);
  Tensor shifted = x.clone();
  for (std::int64_t i = 0; i < x.numel(); ++i) shifted.mutable_data<float>()[i] += bias.data<float>()[i % 5];
  for (const bool training : {true, false}) {
    INFO("training " << training);
    const auto state = [] {
      return norm_state(Var(reference::random({5}, 3, 0.5, 1), true), Var(reference::random({5}, 4), true));
    };
    const NormActOptions options{
        .activation = Activation::identity, .format = {}, .batch_statistics = training};
    NormState with = state(), without = state();
    with.conv_bias = Var(bias, true);
    const Var input(x, true), moved(shifted, true);
    LearnedStatistics with_bias, without_bias;
    const Var y = norm_act(input, with, {}, options, &with_bias),
              expected = norm_act(moved, without, {}, options, &without_bias);
    CHECK(with_bias.mean.defined() == training);
    if (training) {
      update_running(with, with_bias, with.momentum);
      update_running(without, without_bias, without.momentum);
    }
    CHECK(reference::relative_error(y.value(), reference::numbers(expected.value())) < 1e-6);
    CHECK(reference::relative_error(with.running_mean, reference::numbers(without.running_mean)) < 1e-6);
    CHECK(reference::relative_error(with.running_variance, reference::numbers(without.running_variance)) <
          1e-5);
    const Tensor dy = reference::random(y.shape(), 5);
    backward(y, dy);
    backward(expected, dy);
    CHECK(reference::relative_error(input.grad(), reference::numbers(moved.grad())) < 1e-5);
    CHECK(reference::relative_error(with.gamma.grad(), reference::numbers(without.gamma.grad())) < 1e-5);
    // A bias that is added has the sums of the gradient of what it is added to.
    std::vector<double> dbias(5);
    const std::vector<double> dmoved = reference::numbers(moved.grad());
    for (std::size_t i = 0; i < dmoved.size(); ++i) dbias[i % 5] += training ? 0 : dmoved[i];
    CHECK(reference::relative_error(with.conv_bias.grad(), dbias) < 1e-5);
  }
}

TEST_CASE("running statistics follow PyTorch's convention", "[ops]") {
  const Tensor x = reference::random({2, 3, 1, 2}, 1, 1, 3);
  NormState norm{Var(Tensor::full({2}, 1), true), Var(Tensor::zeros({2}), true), Tensor::full({2}, 5),
                 Tensor::full({2}, 7)};
  const std::vector<double> values = reference::numbers(x);
  norm_act(Var(x), norm, {}, {.format = {}, .batch_statistics = false});
  CHECK(reference::numbers(norm.running_mean) == std::vector<double>{5, 5});
  LearnedStatistics learned;
  norm_act(Var(x), norm, {}, {.format = {}}, &learned);
  CHECK(reference::numbers(norm.running_mean) == std::vector<double>{5, 5});
  update_running(norm, learned, 0.25f);
  for (int c = 0; c < 2; ++c) {
    double mean = 0, variance = 0;
    for (int i = 0; i < 6; ++i) mean += values[2 * i + c] / 6;
    for (int i = 0; i < 6; ++i) variance += std::pow(values[2 * i + c] - mean, 2) / 5;  // unbiased
    CHECK(norm.running_mean.data<float>()[c] == Approx(0.75 * 5 + 0.25 * mean));
    CHECK(norm.running_variance.data<float>()[c] == Approx(0.75 * 7 + 0.25 * variance));
  }
}

TEST_CASE("the backward pass sees the statistics and parameters of its forward pass", "[ops]") {
  const Var x(reference::random({2, 3, 3, 4}, 1), true);
  const auto run = [&](bool disturb, bool training) {
    Var input(x.value(), true);
    NormState norm =
        norm_state(Var(reference::random({4}, 2, 0.5, 1), true), Var(reference::random({4}, 3), true));
    const Var y = norm_act(input, norm, {}, {.format = {}, .batch_statistics = training});
    if (disturb) {
      for (Tensor* t : {&norm.running_mean, &norm.running_variance, &norm.gamma.mutable_value(),
                        &norm.beta.mutable_value()}) {
        std::ranges::fill(t->mutable_span<float>(), 3.0f);
      }
    }
    backward(y, reference::random(y.shape(), 4));
    return input.grad();
  };
  for (bool training : {true, false}) CHECK(reference::same_bytes(run(false, training), run(true, training)));
}

// --- straight-through operations: their stated formula in double
// ------------------------------------------------------
