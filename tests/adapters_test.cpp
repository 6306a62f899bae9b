#include "quant/adapters.h"

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
