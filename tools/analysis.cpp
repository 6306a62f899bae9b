#include "tools/analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <functional>
#include <span>

#include "core/atomic_file.h"
#include "core/json.h"
#include "nn/load_weights.h"
#include "quant/compile.h"
#include "quant/scheme.h"
#include "quant/weight_scales.h"
#include "quant/weight_similarity.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/gradient_noise.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/run_record.h"
#include "train/setup.h"

namespace faq {
namespace {

using nlohmann::json;

// A quantized network, and what it is called.
struct Quantized {
  IntegerNetwork network;
  std::string model;
};

Quantized quantized_network(const std::string& file) {
  if (is_integer_network(read_safetensors_metadata(file))) {
    IntegerNetwork network = IntegerNetwork::load(file);
    const auto model = network.about().find("model");
    return {std::move(network), model == network.about().end() ? "" : model->second};
  }
  TrainOptions trained;
  const NamedTensors contents = read_safetensors(file);
  const auto model = model_from_checkpoint(contents, file, trained);
  const NumberFormat quant = format_of_checkpoint(trained, contents.metadata, file);
  check(quant.scheme != Scheme::none && quant.quantize_activations, ErrorKind::bad_data, "weights ", file,
        ": not quantized, expected an integer network or a quantized checkpoint");
  return {compile(*model, trained.val_crop_size, trained.val_crop_size, trained.in_channels), trained.model};
}

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

// All of them before the first one runs: a combination that makes no sense costs nothing.
std::vector<VariantRun> runs_of(const TrainOptions& options, std::span<const Variant> variants) {
  check(!options.output_dir.empty(), ErrorKind::usage, "--output-dir is required");
  std::vector<VariantRun> runs;
  std::vector<json> known;
  for (const Variant& variant : variants) {
    TrainOptions changed = options;
    variant.change(changed);
    json settings = to_json(changed);
    settings["equalize"] = equalize_of(changed);  // an empty one is what the scheme makes of it
    if (std::ranges::find(known, settings) != known.end()) continue;  // there was nothing to change
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

TrainResult outcome(const VariantRun& run, const RunContext& context) {
  RunListeners(context.listeners).notice(run.name + ":");
  const TrainResult result = train(run.options, *run.method, context);
  check(!result.stopped, ErrorKind::stopped, "stopped by a signal after saving a checkpoint in ",
        run.options.output_dir, "; run the same command again to continue");
  return result;
}

json accuracies(const TrainResult& result) {
  return {{"initial", result.initial.top1},
          {"best", result.best.top1},
          {"last", result.last.top1},
          {"epochs", result.epochs}};
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
       o.calibration_batches = (images + o.batch_size - 1) / o.batch_size;
     }},
    {"steps of weights never held", "steps-not-held", [](TrainOptions& o) { o.hold_weight_scales = 1; }},
    {"first and last layer like the others", "first-last-bits",
     [](TrainOptions& o) { o.first_last_bits = deployed_format(o).weight_bits; }},
    {"no weight decay", "no-weight-decay", [](TrainOptions& o) { o.weight_decay = 0; }},
};

}  // namespace

Analysis analyze_cosine(const TrainOptions& options, const std::string& baseline) {
  const Quantized quantized = quantized_network(options.weights);
  NamedTensors before = network_in(read_safetensors(baseline));
  if (!quantized.model.empty()) before = with_canonical_names(before, model_info(quantized.model));
  Analysis a;
  a.chart = {"Quantized weights against " + std::filesystem::path(baseline).filename().string(),
             "layer",
             "cosine similarity",
             {},
             {{"as they are", {}}, {"by channel", {}}}};
  a.result = {{"weights", options.weights}, {"baseline", baseline}, {"layers", json::array()}};
  a.table = fmt::format("{:<36} {:>10} {:>9} {:>11}\n", "layer", "weights", "cosine", "by channel");
  for (const WeightSimilarity& row : weight_similarity(quantized.network, before)) {
    a.table +=
        fmt::format("{:<36} {:>10} {:>9.5f} {:>11.5f}\n", row.layer, row.weights, row.cosine, row.by_channel);
    const json j{{"layer", row.layer},
                 {"weights", row.weights},
                 {"cosine", row.cosine},
                 {"by_channel", row.by_channel}};
    if (row.layer == "all") {
      a.result["all"] = j;
      continue;
    }
    a.result["layers"].push_back(j);
    a.chart.x.push_back(row.layer);
    a.chart.series[0].y.push_back(row.cosine);
    a.chart.series[1].y.push_back(row.by_channel);
  }
  return a;
}

Analysis analyze_gradient_noise(const TrainOptions& given, bool model_given, int batches,
                                std::vector<int> batch_sizes, ProgressDisplay& display) {
  constexpr int widths[] = {32, 8, 6, 5, 4, 3, 2};
  std::ranges::sort(batch_sizes);  // calibrated on the largest
  check(!given.weights.empty(), ErrorKind::usage, "--weights is required");
  TrainOptions options = given;
  refuse_integer_weights(options);
  const NamedTensors weights = weights_in(read_safetensors(options.weights));
  check(model_given || is_checkpoint(weights.metadata), ErrorKind::usage,
        "--model is required for plain weights (", options.weights, ")");
  if (is_checkpoint(weights.metadata)) {
    const TrainOptions trained = options_of_checkpoint(weights.metadata, options.weights);
    check(!model_given || options.model == trained.model, ErrorKind::usage, "--model ", options.model, ": ",
          options.weights, " is a ", trained.model);
    options.model = trained.model;
    check_pixels(options, trained);
    options.in_channels = trained.in_channels;
    options.mean = trained.mean;
    options.std = trained.std;
    options.train_crop_size = trained.train_crop_size;
  }
  const Data data = open_data(options, true);
  Analysis a;
  a.chart = {"Agreement of mini-batch gradients", "bits", "mean cosine to the mean gradient", {}, {}};
  a.result = {{"weights", options.weights}, {"batches", batches}, {"rows", json::array()}};
  a.table = fmt::format("{:>4} {:>11} {:>8} {:>9} {:>10} {:>14}\n", "bits", "batch size", "batches", "cosine",
                        "noise", "mean gradient");
  for (const int bits : widths) a.chart.x.push_back(std::to_string(bits));
  std::vector<int> sizes;
  for (const int size : batch_sizes) {
    if (2 * size > data.train->size()) break;  // one batch has nothing to disagree with
    sizes.push_back(size);
    a.chart.series.push_back({fmt::format("batch {}", size), {}});
  }
  check(!a.chart.series.empty(), ErrorKind::bad_data, "data ", options.data_path, ": ", data.train->size(),
        " training images are fewer than two batches of ", batch_sizes[0]);
  for (std::size_t i = sizes.size(); i < batch_sizes.size(); ++i)
    display.line(fmt::format("batches of {}: left out, there are fewer than two", batch_sizes[i]));
  const auto start = std::chrono::steady_clock::now();
  const auto rows = static_cast<std::int64_t>(std::size(widths) * sizes.size());
  for (const int bits : widths) {
    options.scheme = bits == 32 ? Scheme::none : Scheme::faq;
    options.weight_bits = options.act_bits = bits == 32 ? 8 : bits;
    options.calibration = Calibration::mse;
    options.equalize = Equalize::none;  // scaled weights would have scaled gradients
    const auto batches_of = [&](int size) {
      options.batch_size = size;
      auto loader = std::make_shared<Loader>(*data.train, train_loader_options(options, data));
      return [loader](int count) {
        loader->start_epoch(0);
        return [loader, left = count]() mutable -> std::optional<Batch> {
          return left-- > 0 ? loader->next() : std::nullopt;
        };
      };
    };
    // Every batch size meets the same quantized network.
    const auto model = build_model(options);
    load_weights(*model, weights, {.source = options.weights});
    make_method(options)->begin_phase(*model, 0, [&](int count) -> Batches {
      return [next = batches_of(sizes.back())(count)]() mutable -> std::optional<Tensor> {
        const auto batch = next();
        return batch ? std::optional(batch->images) : std::nullopt;
      };
    });
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const auto next_batches = batches_of(sizes[i]);
      const GradientNoise noise = gradient_noise(*model, [&] { return next_batches(batches); });
      a.table += fmt::format("{:>4} {:>11} {:>8} {:>9.4f} {:>10.4f} {:>14.4f}\n", bits, sizes[i],
                             noise.batches, noise.cosine, noise.noise, noise.mean_norm);
      a.result["rows"].push_back({{"bits", bits},
                                  {"batch_size", sizes[i]},
                                  {"batches", noise.batches},
                                  {"cosine", noise.cosine},
                                  {"noise", noise.noise},
                                  {"mean_gradient", noise.mean_norm}});
      a.chart.series[i].y.push_back(noise.cosine);
      const auto done = static_cast<std::int64_t>(a.result["rows"].size());
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
      if (display.due(seconds_between_lines))
        display.update(
            {.title = "gradient noise, row",
             .done = done,
             .total = rows,
             .seconds_left = passed.count() * static_cast<double>(rows - done) / static_cast<double>(done),
             .figures = {fmt::format("{} bits, batches of {}", bits, sizes[i])}});
    }
  }
  display.clear();
  return a;
}

Analysis analyze_sensitivity(const TrainOptions& options, const RunContext& context) {
  check(options.scheme != Scheme::none, ErrorKind::usage, "--analyze sensitivity: the run is not quantized");
  Analysis a;
  a.chart = {"One ingredient taken away", "", "top-1 (%)", {}, {{"best", {}}, {"last", {}}}};
  a.result = {{"rows", json::array()}};
  a.table = fmt::format("{:<48} {:>9} {:>8} {:>8} {:>8}\n", "", "untrained", "best", "last", "costs");
  double recipe = 0;
  for (const VariantRun& run : runs_of(options, ingredients)) {
    const TrainResult result = outcome(run, context);
    if (a.result["rows"].empty()) recipe = result.best.top1;
    a.table += fmt::format("{:<48} {:>9.2f} {:>8.2f} {:>8.2f} {:>8.2f}\n", run.name, result.initial.top1,
                           result.best.top1, result.last.top1, recipe - result.best.top1);
    json row = accuracies(result);
    row["without"] = run.name;
    a.result["rows"].push_back(std::move(row));
    a.chart.x.push_back(run.folder);
    a.chart.series[0].y.push_back(result.best.top1);
    a.chart.series[1].y.push_back(result.last.top1);
  }
  return a;
}

Analysis analyze_bits(const TrainOptions& options, const RunContext& context) {
  check(options.scheme != Scheme::none, ErrorKind::usage, "--analyze bits: the run is not quantized");
  check(options.bits_schedule.empty(), ErrorKind::usage,
        "--analyze bits: the run has a schedule of bits of its own, ",
        to_json(options)["bits-schedule"].get<std::string>());
  Analysis a;
  a.chart = {"Quantized to fewer and fewer bits",
             "bits of weights and activations",
             "top-1 (%)",
             {},
             {{"after training", {}}, {"calibrated only", {}}}};
  a.result = {{"rows", json::array()}};
  a.table = fmt::format("{:>4} {:>16} {:>8} {:>8}\n", "bits", "calibrated only", "best", "last");
  const int widest = max_weight_bits(options.scheme);
  std::vector<Variant> variants;
  for (const int bits : {8, 6, 5, 4, 3, 2}) {
    if (bits > widest) continue;
    variants.push_back({std::to_string(bits), fmt::format("{}-bits", bits),
                        [bits](TrainOptions& o) { o.weight_bits = o.act_bits = bits; }});
  }
  for (const VariantRun& run : runs_of(options, variants)) {
    const TrainResult result = outcome(run, context);
    a.table += fmt::format("{:>4} {:>16.2f} {:>8.2f} {:>8.2f}\n", run.name, result.initial.top1,
                           result.best.top1, result.last.top1);
    json row = accuracies(result);
    row["bits"] = run.options.weight_bits;
    a.result["rows"].push_back(std::move(row));
    a.chart.x.push_back(run.name);
    a.chart.series[0].y.push_back(result.best.top1);
    a.chart.series[1].y.push_back(result.initial.top1);
  }
  return a;
}

Analysis analyze_weight_scales(const TrainOptions& options, const Network& network, Loader& loader,
                               ProgressDisplay& display) {
  check(network.trained && !weight_scale_choices(*network.trained).empty(), ErrorKind::bad_data, "weights ",
        options.weights, " (", network.kind,
        "): --analyze weight-steps wants a quantized checkpoint that has layers with fixed-point weights");
  const auto evaluated = [&] {
    Scores scores;
    return evaluate(network.forward, loader, scores, display);
  };
  const Evaluation as_it_is = evaluated();
  Analysis a;
  a.chart = {"One layer's weights with the other step",
             "layer",
             "top-1 (%)",
             {},
             {{"as it is", {}}, {"other step", {}}}};
  a.result = {{"weights", options.weights},
              {"top1", as_it_is.top1},
              {"loss", as_it_is.loss},
              {"images", as_it_is.images},
              {"layers", json::array()}};
  a.table = fmt::format("{:<36} {:>4} {:>11} {:>11} {:>11} {:>8} {:>8}\n", "layer", "bits", "step", "other",
                        "error ratio", "top-1", "loss");
  const auto add_line = [&](const std::string& layer, const std::string& step, const Evaluation& e) {
    a.table += fmt::format("{:<36} {:<40} {:>8.2f} {:>8.4f}\n", layer, step, e.top1, e.loss);
  };
  add_line("as it is", "", as_it_is);
  weight_scale_choices(*network.trained, [&](const WeightScaleChoice& row) {
    const Evaluation e = evaluated();
    add_line(row.layer,
             fmt::format("{:>4} {:>11.4g} {:>11.4g} {:>11.4f}", row.format.bits, row.format.scale, row.other,
                         row.error_ratio),
             e);
    a.result["layers"].push_back({{"layer", row.layer},
                                  {"bits", row.format.bits},
                                  {"step", row.format.scale},
                                  {"other_scale", row.other},
                                  {"error_ratio", row.error_ratio},
                                  {"top1", e.top1},
                                  {"loss", e.loss}});
    a.chart.x.push_back(row.layer);
    a.chart.series[0].y.push_back(as_it_is.top1);
    a.chart.series[1].y.push_back(e.top1);
  });
  return a;
}

void save(const Analysis& analysis, const std::string& folder, const std::string& name) {
  const auto write = [&](const std::string& suffix, const std::string& text) {
    AtomicFile file(std::filesystem::path(folder) / (name + suffix));
    file.write(text);
    file.commit();
  };
  write(".json", json_text(analysis.result, 2) + "\n");
  write(".svg", to_svg(analysis.chart));
}

}  // namespace faq
