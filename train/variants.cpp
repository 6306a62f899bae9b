#include "train/variants.h"

#include <algorithm>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>

#include "core/division.h"
#include "quant/scheme.h"
#include "train/option_table.h"
#include "train/quantized_training.h"

namespace faq {
namespace {

// The same run but for one thing.
struct Variant {
  std::string name;
  std::string folder;
  std::function<void(TrainOptions&)> change;
};

struct VariantRun {
  std::string name;
  std::string folder;
  TrainOptions options;
  std::unique_ptr<Method> method;
};

void check_quantized(const TrainOptions& options) {
  check(options.scheme != Scheme::none, ErrorKind::usage, "variants of a run: it is not quantized");
}

// All of them before the first one runs: a combination that makes no sense costs nothing.
std::vector<VariantRun> runs_of(const TrainOptions& options, std::span<const Variant> variants) {
  check(!options.output_dir.empty(), ErrorKind::usage, "`output_dir` is required");
  std::vector<VariantRun> runs;
  std::vector<nlohmann::json> known;
  for (const Variant& variant : variants) {
    TrainOptions changed = options;
    variant.change(changed);
    nlohmann::json settings = to_json(changed);
    settings["equalize"] = equalize_of(changed);  // an empty one is what the scheme makes of it
    if (changed.scheme == Scheme::lsq) settings.erase("hold-weight-scales");  // it holds none
    if (std::ranges::find(known, settings) != known.end()) continue;          // there was nothing to change
    known.push_back(std::move(settings));
    check_options(changed);
    auto method = make_method(changed);
    if (changed.epochs > 0 && changed.epochs < method->phases()) continue;
    changed.output_dir = (std::filesystem::path(options.output_dir) / variant.folder).string();
    changed.resume = "auto";
    runs.push_back({variant.name, variant.folder, std::move(changed), std::move(method)});
  }
  return runs;
}

std::vector<VariantResult> results_of(const TrainOptions& options, std::span<const Variant> variants,
                                      const RunContext& context) {
  std::vector<VariantResult> results;
  for (const VariantRun& run : runs_of(options, variants)) {
    RunListeners(context.listeners).notice(run.name + ":");
    const TrainResult result = train(run.options, *run.method, context);
    check(!result.stopped, ErrorKind::stopped, "stopped by a signal after saving a checkpoint in ",
          run.options.output_dir, "; run the same command again to continue");
    results.push_back({run.name, run.folder, run.options, result});
  }
  return results;
}

// The recipe, and what it lacks in each of the others.
const Variant ingredients[] = {
    {"the recipe", "recipe", [](TrainOptions&) {}},
    {"no pretraining", "no-pretraining",
     [](TrainOptions& o) {
       if (o.distill != Distill::none && o.teacher.empty()) o.teacher = o.weights;  // it keeps what it knows
       o.weights.clear();
     }},
    {"no calibration: ranges cover the largest value", "no-calibration",
     [](TrainOptions& o) {
       o.calibration = Calibration::max;
       o.calibration_percentile = 0;
     }},
    {"channels not equalized", "not-equalized", [](TrainOptions& o) { o.equalize = Equalize::none; }},
    {"a quarter of the epochs", "shorter",
     [](TrainOptions& o) {
       const auto quarter = [](int epochs) { return (epochs + 3) / 4; };
       o.epochs = o.phase_epochs.empty() ? quarter(o.epochs) : 0;
       for (int& epochs : o.phase_epochs) o.epochs += epochs = quarter(epochs);
     }},
    {"a quarter of the batch", "smaller-batch",
     [](TrainOptions& o) {
       const int images = o.batch_size * o.calibration_batches;  // calibration sees as many as before
       o.batch_size = (o.batch_size + 3) / 4;
       o.calibration_batches = divided_up(images, o.batch_size);
     }},
    {"scales of weights never held", "scales-not-held", [](TrainOptions& o) { o.hold_weight_scales = 1; }},
    {"first and last layer like the others", "first-last-bits",
     [](TrainOptions& o) { o.first_last_bits = deployed_format(o).weight_bits; }},
    {"no weight decay", "no-weight-decay", [](TrainOptions& o) { o.weight_decay = 0; }},
};

}  // namespace

std::vector<VariantResult> sensitivity(const TrainOptions& options, const RunContext& context) {
  check_quantized(options);
  return results_of(options, ingredients, context);
}

std::vector<VariantResult> train_at_widths(const TrainOptions& options, const RunContext& context) {
  check_quantized(options);
  check(options.bits_schedule.empty(), ErrorKind::usage,
        "variants of a run: it has a schedule of bits of its own, `bits_schedule` ",
        to_json(options)["bits-schedule"].get<std::string>());
  std::vector<Variant> variants;
  for (const int bits : {8, 6, 5, 4, 3, 2}) {
    if (bits > max_weight_bits(options.scheme)) continue;
    variants.push_back({std::to_string(bits), concat(bits, "-bits"),
                        [bits](TrainOptions& o) { o.weight_bits = o.act_bits = bits; }});
  }
  return results_of(options, variants, context);
}

}  // namespace faq
