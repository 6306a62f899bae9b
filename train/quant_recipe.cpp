#include "train/quant_recipe.h"

#include "core/cpu.h"
#include "core/error.h"
#include "quant/dfp_scheme.h"
#include "quant/dorefa_scheme.h"
#include "train/option_table.h"

namespace faq {
namespace {

// True if channels have one real number as their scale, that of their layer.
bool has_layer_scales(const QuantRecipe& r) {
  return r.scheme == Scheme::faq || (r.scheme == Scheme::lsq && r.scale_sharing == ScaleSharing::layer);
}

NumberFormat format_at(const QuantRecipe& r, const Widths& widths) {
  check_bits("weight_bits", widths.weights);
  check_bits("act_bits", widths.activations);
  check_bits("first_last_bits", r.first_last_bits);
  if (r.residual_bits != 0) check_bits("residual_bits", r.residual_bits);
  check(r.calibration_percentile == 0 || r.calibration == Calibration::percentile, ErrorKind::usage,
        "`calibration_percentile` ", r.calibration_percentile, " has no effect with `calibration` ",
        r.calibration == Calibration::mse ? "mse" : "max");
  check(equalize_of(r) == Equalize::none || has_layer_scales(r), ErrorKind::usage,
        "`equalize` channels: it fits channels to the one scale of a layer, as `scheme` faq has it, and lsq "
        "with `scale_sharing` layer");
  check(r.weight_scale != WeightScale::mean || r.scheme == Scheme::lsq || r.scheme == Scheme::none,
        ErrorKind::usage, "`weight_scale` mean: where learned scales start; `scheme` ", to_text(r.scheme),
        " learns none, only lsq does");
  check(r.scale_sharing == ScaleSharing::layer || r.scheme == Scheme::lsq, ErrorKind::usage,
        "`scale_sharing` channel: `scheme` ", to_text(r.scheme),
        " has no scale for each channel, only lsq learns them");
  check(r.scheme != Scheme::dfp || widths.weights <= max_cluster_bits, ErrorKind::usage, "`weight_bits` ",
        widths.weights, " with `scheme` dfp: clusters are for ", max_cluster_bits,
        " bits or fewer; use `scheme` faq");
  check(r.scheme != Scheme::dorefa || widths.weights <= max_dorefa_bits, ErrorKind::usage, "`weight_bits` ",
        widths.weights, " with `scheme` dorefa: its ", widths.weights,
        "-bit weights are odd integers up to 255, which are no 8-bit integers; use ", max_dorefa_bits,
        " bits or fewer, or `scheme` faq");
  const bool quantizes = r.scheme != Scheme::none;
  const GradFormat grad_format = r.grad_format.value_or(quantizes ? GradFormat::s8 : GradFormat::f32);
  check(!grad_format.is_integer() || quantizes, ErrorKind::usage, "`grad_format` ", grad_format,
        ": `scheme` none multiplies no integers; use f32", has_native_bf16() ? " or bf16" : "");
  check(r.float_dtype == DType::f32 || r.float_dtype == DType::bf16, ErrorKind::usage, "`float_dtype` ",
        r.float_dtype, ": expected f32 or bf16");
  return {.scheme = r.scheme,
          .weight_bits = widths.weights,
          .act_bits = widths.activations,
          .first_last_bits = r.first_last_bits,
          .residual_bits = r.residual_bits,
          .layer_bits = r.layer_bits,
          .calibration = r.calibration,
          .calibration_percentile = r.calibration_percentile,
          .weight_scale = r.weight_scale,
          .scale_sharing = r.scale_sharing,
          .cluster_size = r.cluster_size,
          .ternary_scale = r.ternary_scale,
          .engine = r.engine,
          .grad_format = grad_format};
}

}  // namespace

Equalize equalize_of(const QuantRecipe& recipe) {
  return recipe.equalize.value_or(has_layer_scales(recipe) ? Equalize::channels : Equalize::none);
}

int batch_norm_batches_of(const QuantRecipe& recipe) {
  if (recipe.batch_norm_batches >= 0) return recipe.batch_norm_batches;
  return recipe.scheme == Scheme::dfp ? recipe.calibration_batches : 0;
}

std::vector<NumberFormat> number_formats(const QuantRecipe& recipe) {
  std::vector<Widths> widths = recipe.bits_schedule;
  for (std::size_t i = 1; i < widths.size(); ++i) {
    const Widths &before = widths[i - 1], &now = widths[i];
    check(now.weights <= before.weights && now.activations <= before.activations && now != before,
          ErrorKind::usage, "`bits_schedule`: ", now.weights, "/", now.activations, " after ", before.weights,
          "/", before.activations, ": expected fewer bits from one to the next");
  }
  if (widths.empty()) widths.push_back({recipe.weight_bits, recipe.act_bits});
  const bool methods =
      !recipe.bits_schedule.empty() || recipe.weights_first || recipe.stochastic_precision < 1;
  check(!methods || recipe.scheme != Scheme::none, ErrorKind::usage,
        "`weights_first`, `bits_schedule` and `stochastic_precision` are ways to quantize: they want a "
        "`scheme`");
  std::vector<NumberFormat> phases;
  for (const Widths& at : widths) phases.push_back(format_at(recipe, at));
  if (recipe.weights_first) {
    NumberFormat weights_alone = phases.front();
    weights_alone.quantize_activations = false;
    phases.insert(phases.begin(), weights_alone);
  }
  return phases;
}

void check_trainable_here(const QuantRecipe& r) {
  if (has_native_bf16()) return;
  check(r.grad_format != GradFormat::bf16, ErrorKind::usage, "`grad_format` bf16: this CPU (", isa_name(),
        ") has no native bf16; use f32", r.scheme != Scheme::none ? " or s8" : "");
  check(r.float_dtype != DType::bf16, ErrorKind::usage, "`float_dtype` bf16: this CPU (", isa_name(),
        ") has no native bf16; use f32");
}

NumberFormat deployed_format(const QuantRecipe& recipe) { return number_formats(recipe).back(); }

}  // namespace faq
