#include "nn/units.h"

#include <cmath>
#include <set>
#include <type_traits>

#include "core/cpu.h"
#include "core/rng.h"
#include "nn/models.h"
#include "quant/quantize.h"
#include "tests/catch.h"
#include "tests/data_testing.h"
#include "tests/reference.h"

using namespace faq;
using testing::check_error;

namespace {

struct ConvAndClassifier {
  ConvNormAct conv{16, 16, 3, {.padding = 1}};
  Linear classifier{16, 4};

  ConvAndClassifier() {
    Random random(3, RandomStream::synthetic);
    conv.initialize(random);
    classifier.initialize(random);
  }
};

constexpr std::int64_t width = 4096;

std::vector<float> masked(Dropout& dropout, const RandomKeys& keys, std::size_t row) {
  const Tensor ones = Tensor::full({static_cast<std::int64_t>(keys.samples.size()), width}, 1.0f);
  const Tensor y = dropout(training_pass(keys), Var(ones)).value();
  const auto values = y.span<float>().subspan(row * width, width);
  return {values.begin(), values.end()};
}

}  // namespace

TEST_CASE("dropout depends on the sample, not on the batch it is in", "[units]") {
  Dropout first(0.25f, 0), other(0.25f, 1);
  const RandomKeys several{.seed = 1, .epoch = 2, .samples = {7, 8, 9}};
  const auto eight = masked(first, several, 1), nine = masked(first, several, 2);
  const auto second = masked(other, several, 1);
  CHECK(eight == masked(first, several, 1));
  CHECK(eight != nine);
  CHECK(eight != second);
  const RandomKeys alone{.seed = 1, .epoch = 2, .samples = {8}};
  CHECK(masked(first, alone, 0) == eight);
  CHECK(masked(other, alone, 0) == second);
  CHECK(masked(first, {.seed = 1, .epoch = 3, .samples = {8}}, 0) != eight);
  CHECK(masked(first, {.seed = 2, .epoch = 2, .samples = {8}}, 0) != eight);

  // p of the values, and the others larger by 1/(1 - p): 4 standard deviations of 4096 draws are 0.027.
  for (const auto& row : {eight, nine, second}) {
    std::int64_t dropped = 0;
    for (const float value : row) {
      dropped += value == 0;
      CHECK((value == 0 || value == Approx(4.0 / 3)));
    }
    CHECK(static_cast<double>(dropped) / width == Approx(0.25).margin(0.027));
  }
}

TEST_CASE("dropout wants to know its samples, in training only", "[units]") {
  Dropout dropout(0.25f);
  const Var x(Tensor::full({2, width}, 1.0f));
  CHECK_THROWS_WITH(dropout(training_pass(), x), Catch::Contains("2 images, the pass names 0 samples"));
  CHECK_THROWS_WITH(dropout(training_pass({.samples = {5}}), x), Catch::Contains("names 1 samples"));
  CHECK(dropout({}, x).same_node(x));
  dropout.set_probability(0);
  CHECK(dropout(training_pass(), x).same_node(x));
}

namespace {

// A convolution of its own kind, which lists its weights and no more.
class OwnConv final : public ConvUnit {
 public:
  OwnConv() : ConvUnit({4, 4, 3, 3}, 4, {.kernel = 3, .padding = 1}, false, Activation::relu, 1e-5f) {}
  void visit_conv(Visitor& v) override { v.parameter("weight", weight_); }
  void visit_norm(Visitor& v) override { visit_batch_norm(v); }
  bool has_batch_norm() const override { return true; }
};

// With `same_names`, two units have one name; with `forgets`, the convolution of its own is not listed.
class OwnNet final : public Model {
 public:
  OwnNet(bool same_names, bool forgets) : same_names_(same_names), forgets_(forgets) {}
  void visit(Visitor& v) override {
    v.child("input", input_);
    v.child("conv", "bn", conv_);
    if (!forgets_) v.child(same_names_ ? "conv" : "own", "own_bn", own_);
    v.child("pool", pool_);
    v.child("fc", fc_);
  }
  Var forward(const Pass& pass, const Var& images) override {
    return fc_(pass, pool_(pass, own_(pass, conv_(pass, input_(pass, images)))));
  }

 private:
  bool same_names_, forgets_;
  Input input_{{0.5f}, {0.25f}};
  ConvNormAct conv_{1, 4, 3, {.padding = 1}};
  OwnConv own_;
  GlobalAvgPool pool_;
  Linear fc_{4, 2};
};

CalibrationResult seen_by(Model& model) {
  return calibrate(model, [left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(reference::random_integers<std::uint8_t>({4, 8, 8, 1}, 3, 0, 255))
                      : std::nullopt;
  });
}

}  // namespace

TEST_CASE("a convolution of one's own keeps its quantizer in checkpoints", "[units]") {
  OwnNet model(false, false);
  initialize(model, 1);
  const CalibrationResult seen = seen_by(model);
  quantize(model, {.scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4}, &seen);
  std::set<std::string> names;
  for (const auto& buffer : buffers(model)) names.insert(buffer.name);
  for (const char* name : {"conv.quantizer", "own.quantizer", "own_bn.running_mean"}) {
    CAPTURE(name);
    CHECK(names.contains(name));
  }
}

TEST_CASE("what a model lists twice or not at all is refused", "[units]") {
  OwnNet twice(true, false), forgetful(false, true);
  check_error(ErrorKind::usage, "lists two things called 'conv", [&] { parameters(twice); });
  check_error(ErrorKind::usage, "lists two things called 'conv'", [&] { initialize(twice, 1); });
  initialize(forgetful, 1);
  check_error(ErrorKind::usage, "a unit with weights runs that visit() does not list",
              [&] { seen_by(forgetful); });
}

// Adapters refer to units.
static_assert(!std::is_copy_constructible_v<OwnNet> && !std::is_copy_assignable_v<OwnNet>);

TEST_CASE("a forward returns what batch-norms learned and changes nothing", "[units]") {
  ConvNormAct conv(2, 3, 1);
  Random random(1, RandomStream::initialization, 0);
  conv.initialize(random);
  const Var x(reference::random({2, 4, 4, 2}, 1));
  const auto running = [&] { return reference::numbers(conv.norm().running_mean); };
  const std::vector<double> before = running();
  conv(training_pass(), x);  // nobody asks
  BatchStatistics learned;
  conv(training_pass({}, &learned), x);
  CHECK(running() == before);
  REQUIRE(learned.entries().size() == 1);
  CHECK(learned.entries()[0].norm == &conv.norm());
  CHECK(learned.entries()[0].learned.values == 32);
  BatchStatistics nothing;
  conv({.statistics = &nothing}, x);  // an evaluation learns nothing
  CHECK(nothing.entries().empty());

  const std::vector<double> mean = reference::numbers(learned.entries()[0].learned.mean);
  update_running_statistics(learned);
  for (std::size_t c = 0; c < 3; ++c) CHECK(running()[c] == Approx(0.1 * mean[c]));
  update_running_statistics(learned, 1);
  CHECK(running() == mean);
}

TEST_CASE("an observer sees every unit with what it was given and handed on", "[units]") {
  struct Seen final : UnitObserver {
    std::vector<UnitRole> roles;
    void saw(Unit& unit, Inputs inputs, const Var& output) override {
      roles.push_back(unit.role());
      CHECK(inputs.size() == 1);
      CHECK(output.defined());
    }
  } seen;
  ConvNormAct conv(2, 3, 1);
  GlobalAvgPool pool;
  const Pass pass{.observer = &seen};
  pool(pass, conv(pass, Var(reference::random({2, 4, 4, 2}, 1))));
  CHECK(seen.roles == std::vector{UnitRole::convolution, UnitRole::mean});
}

TEST_CASE("units in floating point multiply what the pass says", "[units]") {
  if (!has_native_bf16()) return;
  ConvAndClassifier units;
  const Var x(reference::random({4, 6, 6, 16}, 5)), rows(reference::random({4, 16}, 6));
  const auto error = [](const Var& a, const Var& b) {
    return reference::relative_error(a.value(), reference::numbers(b.value()));
  };
  for (const Pass& pass : {Pass{}, training_pass()}) {
    Pass rounded = pass;
    rounded.float_dtype = DType::bf16;
    for (const double e : {error(units.conv(rounded, x), units.conv(pass, x)),
                           error(units.classifier(rounded, rows), units.classifier(pass, rows))}) {
      CHECK(e > 0);
      CHECK(e < 0.01);
    }
  }
}

TEST_CASE("units in floating point compute gradients in the format of the pass", "[units]") {
  if (!has_native_bf16()) return;
  ConvAndClassifier units;
  const Var x(reference::random({4, 6, 6, 16}, 5), true);
  const std::vector<std::int32_t> labels{0, 1, 2, 3};
  const auto gradients = [&](const GradFormat& format) {
    const Pass pass = training_pass({}, nullptr, format);
    for (Var leaf : {x, units.conv.weight(), units.classifier.weight()}) leaf.clear_grad();
    backward(cross_entropy(units.classifier(pass, global_avg_pool(units.conv(pass, x))), labels));
    return std::vector{x.grad(), units.conv.weight().grad(), units.classifier.weight().grad()};
  };
  const auto f32 = gradients(GradFormat::f32), bf16 = gradients(GradFormat::bf16);
  CHECK(f32[0].dtype() == DType::f32);
  CHECK(bf16[0].dtype() == DType::bf16);
  for (std::size_t i = 0; i < f32.size(); ++i) {
    const double error = reference::relative_error(bf16[i], reference::numbers(f32[i]));
    CHECK(error > 0);
    CHECK(error < 0.02);
  }
}
