#include "tools/analysis.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "core/atomic_file.h"
#include "core/json.h"

namespace faq {
namespace {

using nlohmann::json;

// A deep network with random weights may not have been evaluated before training.
json initial_top1(const TrainResult& result) {
  return result.initial.images > 0 ? json(result.initial.top1) : json();
}
std::string initial_text(const TrainResult& result) {
  return result.initial.images > 0 ? fmt::format("{:.2f}", result.initial.top1) : "-";
}

json accuracies(const TrainResult& result) {
  return {{"initial", initial_top1(result)},
          {"best", result.best.top1},
          {"last", result.last.top1},
          {"epochs", result.epochs}};
}

}  // namespace

Analysis show(const std::vector<WeightSimilarity>& rows, const std::string& weights,
              const std::string& baseline) {
  Analysis a;
  a.chart = {"Quantized weights against " + std::filesystem::path(baseline).filename().string(),
             "layer",
             "cosine similarity",
             {},
             {{"as they are", {}}, {"by channel", {}}}};
  a.result = {{"weights", weights}, {"baseline", baseline}, {"layers", json::array()}};
  a.table = fmt::format("{:<36} {:>10} {:>9} {:>11}\n", "layer", "weights", "cosine", "by channel");
  for (const WeightSimilarity& row : rows) {
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

Analysis show(const std::vector<GradientNoiseRow>& rows, const GradientNoiseStudy& study) {
  Analysis a;
  a.chart = {"Agreement of mini-batch gradients", "bits", "mean cosine to the mean gradient", {}, {}};
  a.result = {{"weights", study.model.weights}, {"batches", study.batches}, {"rows", json::array()}};
  a.table = fmt::format("{:>4} {:>9} {:>11} {:>8} {:>9} {:>10} {:>14}\n", "bits", "gradients", "batch size",
                        "batches", "cosine", "noise", "mean gradient");
  std::string agreements;
  for (const GradientNoiseRow& row : rows) {
    a.table += fmt::format("{:>4} {:>9} {:>11} {:>8} {:>9.4f} {:>10.4f} {:>14.4f}\n", row.bits,
                           name_of(row.grad_format), row.batch_size, row.noise.batches, row.noise.cosine,
                           row.noise.noise, row.noise.mean_norm);
    json j{{"bits", row.bits},
           {"grad_dtype", name_of(row.grad_format)},
           {"batch_size", row.batch_size},
           {"batches", row.noise.batches},
           {"cosine", row.noise.cosine},
           {"noise", row.noise.noise},
           {"mean_gradient", row.noise.mean_norm}};
    for (const auto& [parameter, cosine, noise] : row.agreement) {
      agreements += fmt::format("{:>4} {:>9} {:>11} {:<36} {:>9.5f} {:>10.5f}\n", row.bits,
                                name_of(row.grad_format), row.batch_size, parameter, cosine, noise);
      j["agreement"].push_back({{"parameter", parameter}, {"cosine", cosine}, {"noise", noise}});
    }
    a.result["rows"].push_back(std::move(j));
    if (a.chart.x.empty() || a.chart.x.back() != std::to_string(row.bits))
      a.chart.x.push_back(std::to_string(row.bits));
    const bool several = study.grad_formats.size() > 1 && row.bits != 32;
    // What is not quantized has one format, a point of every series.
    for (const GradFormat& format :
         study.grad_formats.empty() ? std::vector{row.grad_format} : study.grad_formats) {
      if (several && format != row.grad_format) continue;
      const std::string series = study.grad_formats.size() > 1
                                     ? fmt::format("batch {}, {}", row.batch_size, name_of(format))
                                     : fmt::format("batch {}", row.batch_size);
      auto found = std::ranges::find(a.chart.series, series, &Chart::Series::name);
      if (found == a.chart.series.end()) found = a.chart.series.insert(a.chart.series.end(), {series, {}});
      found->y.push_back(row.noise.cosine);
    }
  }
  if (!agreements.empty())
    a.table +=
        fmt::format(
            "\nwith the gradients in f32 of the same batches:\n{:>4} {:>9} {:>11} {:<36} {:>9} {:>10}\n",
            "bits", "gradients", "batch size", "parameter", "cosine", "noise") +
        agreements;
  return a;
}

Analysis show(const WeightScaleScores& scores, const std::string& weights) {
  Analysis a;
  a.chart = {"One layer's weights with the other scale",
             "layer",
             "top-1 (%)",
             {},
             {{"as it is", {}}, {"other scale", {}}}};
  a.result = {{"weights", weights},
              {"top1", scores.as_it_is.top1},
              {"loss", scores.as_it_is.loss},
              {"images", scores.as_it_is.images},
              {"layers", json::array()}};
  a.table = fmt::format("{:<36} {:>4} {:>11} {:>11} {:>11} {:>8} {:>8}\n", "layer", "bits", "scale", "other",
                        "error ratio", "top-1", "loss");
  const auto add_line = [&](const std::string& layer, const std::string& scale, const Evaluation& e) {
    a.table += fmt::format("{:<36} {:<40} {:>8.2f} {:>8.4f}\n", layer, scale, e.top1, e.loss);
  };
  add_line("as it is", "", scores.as_it_is);
  for (const auto& [row, e] : scores.layers) {
    add_line(row.layer,
             fmt::format("{:>4} {:>11.4g} {:>11.4g} {:>11.4f}", row.format.bits, row.format.scale, row.other,
                         row.error_ratio),
             e);
    a.result["layers"].push_back({{"layer", row.layer},
                                  {"bits", row.format.bits},
                                  {"scale", row.format.scale},
                                  {"other_scale", row.other},
                                  {"error_ratio", row.error_ratio},
                                  {"top1", e.top1},
                                  {"loss", e.loss}});
    a.chart.x.push_back(row.layer);
    a.chart.series[0].y.push_back(scores.as_it_is.top1);
    a.chart.series[1].y.push_back(e.top1);
  }
  return a;
}

Analysis show_sensitivity(const std::vector<VariantResult>& rows) {
  Analysis a;
  a.chart = {"One ingredient taken away", "", "top-1 (%)", {}, {{"best", {}}, {"last", {}}}};
  a.result = {{"rows", json::array()}};
  a.table = fmt::format("{:<48} {:>9} {:>8} {:>8} {:>8}\n", "", "untrained", "best", "last", "costs");
  for (const auto& [name, folder, options, result] : rows) {
    const double cost = rows.front().result.best.top1 - result.best.top1;
    a.table += fmt::format("{:<48} {:>9} {:>8.2f} {:>8.2f} {:>8.2f}\n", name, initial_text(result),
                           result.best.top1, result.last.top1, cost);
    json row = accuracies(result);
    row["without"] = name;
    a.result["rows"].push_back(std::move(row));
    a.chart.x.push_back(folder);
    a.chart.series[0].y.push_back(result.best.top1);
    a.chart.series[1].y.push_back(result.last.top1);
  }
  return a;
}

Analysis show_widths(const std::vector<VariantResult>& rows) {
  Analysis a;
  a.chart = {"Quantized to fewer and fewer bits",
             "bits of weights and activations",
             "top-1 (%)",
             {},
             {{"after training", {}}, {"calibrated only", {}}}};
  a.result = {{"rows", json::array()}};
  a.table = fmt::format("{:>4} {:>16} {:>8} {:>8}\n", "bits", "calibrated only", "best", "last");
  for (const auto& [name, folder, options, result] : rows) {
    a.table += fmt::format("{:>4} {:>16.2f} {:>8.2f} {:>8.2f}\n", name, result.initial.top1, result.best.top1,
                           result.last.top1);
    json row = accuracies(result);
    row["bits"] = options.weight_bits;
    a.result["rows"].push_back(std::move(row));
    a.chart.x.push_back(name);
    a.chart.series[0].y.push_back(result.best.top1);
    a.chart.series[1].y.push_back(result.initial.top1);
  }
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
