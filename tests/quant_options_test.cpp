#include "quant/number_format.h"

#include "core/cpu.h"
#include "quant/quantize.h"
#include "tests/data_testing.h"
#include "tests/testing.h"
#include "train/quant_recipe.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("a recipe has 8-bit gradients by default where it quantizes", "[quant_options][isa]") {
  for (const Scheme scheme : {Scheme::faq, Scheme::dfp, Scheme::dorefa, Scheme::lsq})
    CHECK(deployed_format(QuantRecipe{.scheme = scheme, .weight_bits = 4}).grad_format == GradFormat::s8);
  CHECK(deployed_format(QuantRecipe{}).grad_format == GradFormat::f32);
}

TEST_CASE("a number format has gradients in bf16 by default only where the CPU has it",
          "[quant_options][isa]") {
  const OneThread one_thread;
  INFO(isa_name());
  const NumberFormat options{.scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4};
  CHECK(options.grad_format == (has_native_bf16() ? GradFormat::bf16 : GradFormat::f32));
  // And so a training step works on any.
  const auto model = make_model("resnet20", {});
  initialize(*model, 1);
  const Tensor images = reference::random_integers<std::uint8_t>({4, 16, 16, 3}, 1, 0, 255);
  const CalibrationResult seen = calibrate(*model, [&, left = 1]() mutable -> std::optional<Tensor> {
    return left-- > 0 ? std::optional(images) : std::nullopt;
  });
  quantize(*model, options, &seen);
  const std::vector<std::int32_t> labels{0, 1, 2, 3};
  CHECK_NOTHROW(backward(training_loss(model->forward_training(training_pass(), Var(images)), labels)));
}

TEST_CASE("quantize refuses bits that integers of 8 bits have no place for", "[quant_options]") {
  const auto model = make_model("resnet20", {});
  const NumberFormat good{.scheme = Scheme::faq, .weight_bits = 4, .act_bits = 4};
  for (const int bits : {-1, 0, 1, 9, 12}) {
    CAPTURE(bits);
    NumberFormat weights = good, activations = good, ends = good, residuals = good, layer = good;
    weights.weight_bits = activations.act_bits = ends.first_last_bits = bits;
    residuals.residual_bits = bits;
    layer.layer_bits = {{"conv1", 8, bits}};
    check_error(ErrorKind::usage, "`weight_bits`", [&] { quantize(*model, weights, nullptr); });
    check_error(ErrorKind::usage, "`act_bits`", [&] { quantize(*model, activations, nullptr); });
    check_error(ErrorKind::usage, "`first_last_bits`", [&] { quantize(*model, ends, nullptr); });
    if (bits != 0)
      check_error(ErrorKind::usage, "`residual_bits`", [&] { quantize(*model, residuals, nullptr); });
    check_error(ErrorKind::usage, "`layer_bits`", [&] { quantize(*model, layer, nullptr); });
  }
}

TEST_CASE("8-bit gradients are for any CPU, and for what is quantized", "[quant_options][isa]") {
  for (const GradFormat& format : {GradFormat::s8, GradFormat::s8_data}) {
    QuantRecipe recipe{.scheme = Scheme::faq};
    recipe.grad_format = format;
    CHECK(deployed_format(recipe).grad_format == format);
    recipe.scheme = Scheme::none;
    check_error(ErrorKind::usage, concat("`grad_format` ", format), [&] { number_formats(recipe); });
  }
  QuantRecipe in_floating_point;
  CHECK(deployed_format(in_floating_point).grad_format == GradFormat::f32);
  if (!has_native_bf16()) return;
  in_floating_point.grad_format = GradFormat::bf16;
  CHECK(deployed_format(in_floating_point).grad_format == GradFormat::bf16);
}

TEST_CASE("layers in floating point multiply f32, or bf16 where the CPU does", "[quant_options][isa]") {
  QuantRecipe recipe;
  CHECK(recipe.float_dtype == DType::f32);
  recipe.float_dtype = DType::s8;
  check_error(ErrorKind::usage, "`float_dtype` s8", [&] { number_formats(recipe); });
  recipe.float_dtype = DType::bf16;
  QuantRecipe gradients;
  gradients.grad_format = GradFormat::bf16;
  CHECK_NOTHROW(number_formats(recipe));  // who evaluates what was trained so needs no such CPU
  CHECK_NOTHROW(number_formats(gradients));
  if (has_native_bf16()) {
    CHECK_NOTHROW(check_trainable_here(recipe));
    CHECK_NOTHROW(check_trainable_here(gradients));
  } else {
    check_error(ErrorKind::usage, "`float_dtype` bf16", [&] { check_trainable_here(recipe); });
    check_error(ErrorKind::usage, "`grad_format` bf16", [&] { check_trainable_here(gradients); });
  }
}

TEST_CASE("only lsq has scales that are learned", "[quant_options]") {
  for (const Scheme scheme : {Scheme::faq, Scheme::dfp, Scheme::dorefa, Scheme::lsq}) {
    QuantRecipe recipe{.scheme = scheme, .weight_bits = 4};
    QuantRecipe by_channel = recipe, from_mean = recipe;
    by_channel.scale_sharing = ScaleSharing::channel;
    from_mean.weight_scale = WeightScale::mean;
    if (scheme == Scheme::lsq) {
      CHECK(deployed_format(by_channel).scale_sharing == ScaleSharing::channel);
      CHECK(deployed_format(from_mean).weight_scale == WeightScale::mean);
      continue;
    }
    check_error(ErrorKind::usage, "`scale_sharing` channel", [&] { number_formats(by_channel); });
    check_error(ErrorKind::usage, "`weight_scale` mean", [&] { number_formats(from_mean); });
  }
}
