#include "quant/adapters.h"

#include "core/cpu.h"
#include "core/rng.h"
#include "nn/units.h"
#include "tests/catch.h"
#include "tests/reference.h"

using namespace faq;

TEST_CASE("weights are quantized once for each version and setting", "[quant]") {
  for (const Scheme scheme : {Scheme::faq, Scheme::dfp, Scheme::dorefa}) {
    ConvNormAct unit(4, 8, 3, {.padding = 1});
    unit.weight() = Var(reference::random({8, 4, 3, 3}, 1), true);
    unit.set_adapter(make_quantized_adapter("conv", unit, {.scheme = scheme, .weight_bits = 4}));
    QuantizedUnit& quantizer = *quantizer_of(unit);
    quantizer.set_state({.activation = {.scale = 0.5f, .bits = 4}, .weight_bits = 4});
    quantizer.quantized_weights();
    const Tensor first = quantizer.quantized_weights().values;  // asked for again: from now on they are kept
    const auto is_kept = [&] { return quantizer.quantized_weights().values.same_storage(first); };

    const Var x(reference::random_fixed_point({2, 5, 5, 4}, 2, {.scale = 0.25f, .bits = 4}));
    const auto train = [&] {
      const Var y = unit(training_pass(), x);
      backward(y, reference::random(y.shape(), 3));
    };
    for (int pass = 0; pass < 2; ++pass) train();
    CHECK(is_kept());
    quantizer.set_state(
        {.activation = {.scale = 0.25f, .bits = 4}, .weight_bits = 4});  // says nothing of them
    CHECK(is_kept());

    SECTION("other weights") {
      unit.weight().mutable_value().mutable_data<float>()[0] += 1;
      CHECK_FALSE(is_kept());
      CHECK_FALSE(reference::same_bytes(quantizer.quantized_weights().values, first));
    }
    SECTION("another tensor in their place") {
      unit.weight().mutable_value() = unit.weight().value().clone();
      CHECK_FALSE(is_kept());
      CHECK(reference::same_bytes(quantizer.quantized_weights().values, first));
    }
    SECTION("other bits") {
      quantizer.set_state({.activation = {.scale = 0.5f, .bits = 4}, .weight_bits = 3});
      CHECK_FALSE(is_kept());
    }
    SECTION("a scale that is held") {
      quantizer.set_state(
          {.activation = {.scale = 0.5f, .bits = 4}, .weight_bits = 4, .weight_scale = 0.125f});
      CHECK(quantizer.quantized_weights().values.fixed_point().scale == 0.125f);
    }
  }
}

TEST_CASE("a filter that covers the image gives what the convolution gives", "[quant]") {
  for (const GradFormat& format : {GradFormat::f32, GradFormat::s8}) {
    for (const bool by_channel : {false, true}) {
      const Scheme scheme = by_channel ? Scheme::dfp : Scheme::faq;
      INFO("gradients " << format << ", scales of channels " << by_channel);
      ConvNormAct unit(20, 33, {3, 4}, {});
      unit.weight() = Var(reference::random({33, 20, 3, 4}, 1), true);
      unit.set_adapter(make_quantized_adapter(
          "conv", unit,
          {.scheme = scheme, .weight_bits = by_channel ? 2 : 4, .cluster_size = 0, .grad_format = format}));
      QuantizedUnit& quantizer = *quantizer_of(unit);
      const FixedPoint output{.scale = 0.25f, .bits = 4};
      quantizer.set_state({.activation = output, .weight_bits = by_channel ? 2 : 4});
      const Tensor images = reference::random_fixed_point({5, 3, 4, 20}, 2, {.scale = 0.25f, .bits = 4});
      const RandomKeys keys{.seed = 3, .samples = {7, 8, 9, 10, 11}};
      const Var x(images, true);
      const Var y = unit(training_pass(keys), x);
      const auto is_flatten = [](const Var& var) { return std::string(var.op()) == "flatten"; };
      CHECK(std::ranges::count_if(topological_order(y), is_flatten) == 1);
      const Tensor dy = reference::random(y.shape(), 4);
      backward(y, dy);

      // The same op, of the images and filters as they are.
      const QuantizedWeights weights = quantizer.quantized_weights();
      const Var plain_x(images, true), w(unit.weight().value().clone(), true);
      const Var plain = conv_norm_act_integer(
          plain_x, w, {weights.values, weights.channel_scales}, unit.norm(), {}, {}, Engine::integer, format,
          {.format = output}, nullptr, {keys.seed, 0, keys.epoch, keys.samples});
      backward(plain, dy);
      CHECK(reference::same_bytes(y.value(), plain.value()));
      if (format == GradFormat::s8) {
        CHECK(reference::same_bytes(unit.weight().grad(), w.grad()));
        CHECK(reference::same_bytes(x.grad(), plain_x.grad()));
      } else {
        CHECK(reference::relative_error(unit.weight().grad(), reference::numbers(w.grad())) < 1e-5);
        CHECK(reference::relative_error(x.grad(), reference::numbers(plain_x.grad())) < 1e-5);
      }
    }
  }
}

TEST_CASE("what a quantized network leaves in floating point multiplies what the pass says", "[quant][isa]") {
  if (!has_native_bf16()) return;
  for (const Scheme scheme : {Scheme::faq, Scheme::lsq}) {
    ConvNormAct conv(16, 24, 3, {.padding = 1});
    Linear classifier(24, 4);
    Random random(3, RandomStream::synthetic);
    conv.initialize(random);
    classifier.initialize(random);
    const NumberFormat format{.scheme = scheme, .weight_bits = 4, .grad_format = GradFormat::f32};
    conv.set_adapter(make_quantized_adapter("conv", conv, format));
    classifier.set_adapter(make_quantized_adapter("fc", classifier, format));
    for (Unit* unit : {static_cast<Unit*>(&conv), static_cast<Unit*>(&classifier)})
      quantizer_of(*unit)->set_state({.activation = {.scale = 0.25f, .bits = 4}, .weight_bits = 4});
    const FixedPoint integers{.scale = 0.25f, .bits = 4};
    const Var x(reference::random({2, 5, 6, 16}, 1)), rows(reference::random({2, 24}, 2));
    const Var integer_x(reference::random_fixed_point({2, 5, 6, 16}, 1, integers)),
        integer_rows(reference::random_fixed_point({2, 24}, 2, integers));
    struct Row {
      const char* what;
      PrecisionPlan plan;
      bool in_float;
    };
    for (const Row& row :
         {Row{"weights alone", {.activations = false}, true},
          Row{"exceptions", {.exceptions = {&conv, &classifier}}, true}, Row{"all", {}, false}}) {
      INFO((scheme == Scheme::faq ? "faq" : "lsq") << ", quantized: " << row.what);
      Pass f32 = training_pass({.samples = {0, 1}}, nullptr, GradFormat::f32, row.plan), bf16 = f32;
      bf16.float_dtype = DType::bf16;
      for (Unit* unit : {static_cast<Unit*>(&conv), static_cast<Unit*>(&classifier)}) {
        const bool is_conv = unit == &conv;
        const Var& in = row.in_float ? (is_conv ? x : rows) : (is_conv ? integer_x : integer_rows);
        const Tensor expected = (*unit)(f32, in).value(), found = (*unit)(bf16, in).value();
        if (row.in_float) {
          const double error = reference::relative_error(found, reference::numbers(expected));
          CHECK(error > 0);
          CHECK(error < 0.01);
        } else {
          CHECK(reference::same_bytes(found, expected));
        }
      }
    }
  }
}
