#include "tools/train_text.h"

#include <fmt/format.h>

#include <filesystem>

#include "tools/cli.h"
#include "train/checkpoint.h"

namespace faq {
namespace {

using nlohmann::json;

json stages_of(const TrainResult& result, bool quantized) {
  json rows = json::array();
  const auto add = [&](const char* name, const Evaluation& e) {
    if (e.images > 0)
      rows.push_back({{"name", name},
                      {"top1", e.top1},
                      {"top5", e.top5},
                      {"loss", e.loss},
                      {"images_per_s", e.images_per_s}});
  };
  add(quantized ? "calibrated" : "before training", result.initial);
  if (result.epochs > 0) add(quantized ? "fine-tuned" : "trained", result.best);
  return rows;
}

std::string cell(const json& row, const char* key, const char* format) {
  return row.contains(key) ? fmt::format(fmt::runtime(format), row[key].get<double>()) : "-";
}

std::string size_of(const json& row) {
  if (!row.contains("bytes")) return "-";
  const double bytes = row["bytes"];
  return bytes < 1e6 ? fmt::format("{:.0f} kB", bytes / 1e3) : fmt::format("{:.1f} MB", bytes / 1e6);
}

}  // namespace

std::string stages_text(const json& details, const TrainResult& result, bool quantized, bool bold) {
  const json rows = details.is_object() ? details["stages"] : stages_of(result, quantized);
  constexpr const char* columns = "{:<16} {:>7} {:>7} {:>8} {:>9} {:>9}";
  std::string text = fmt::format(columns, "network", "top-1", "top-5", "loss", "size", "images/s") + "\n";
  for (const json& row : rows) {
    const std::string line = fmt::format(columns, row["name"].get<std::string>(), cell(row, "top1", "{:.2f}"),
                                         cell(row, "top5", "{:.2f}"), cell(row, "loss", "{:.4f}"),
                                         size_of(row), cell(row, "images_per_s", "{:.0f}"));
    text += (bold && &row == &rows.back() ? "\x1b[1m" + line + "\x1b[0m" : line) + "\n";
  }
  return text;
}

std::string summary_text(const TrainResult& result) {
  std::string text = fmt::format(
      "best top-1 {:.2f} (epoch {}), last {:.2f}; {:.0f} s{}, peak {:.0f} MB", result.best.top1,
      result.best_epoch, result.last.top1, result.seconds,
      result.train_images_per_s > 0 ? fmt::format(", {:.0f} images/s", result.train_images_per_s) : "",
      static_cast<double>(result.peak_bytes) / 1e6);
  if (result.ranks > 1)
    text += fmt::format("; {:.1f} s of gradients between {} ranks, {:.1f} s waited", result.exchange_seconds,
                        result.ranks, result.wait_seconds);
  if (result.skipped > 0) text += fmt::format("; {} images skipped", result.skipped);
  if (result.faulty > 0) text += fmt::format("; images with recoverable faults: {}", result.faulty);
  return text + "\n";
}

std::string next_text(const TrainOptions& options, bool has_report) {
  const std::filesystem::path folder = options.output_dir;
  const auto file = [&](const char* name) { return cli::shell_word((folder / name).string()); };
  std::error_code none;
  const bool deployed = std::filesystem::exists(folder / integer_network_file, none);
  std::string text;
  if (has_report) text += "look at it:  " + file("report.html") + "\n";
  std::string data = "--data-path " + cli::shell_word(options.data_path);
  if (options.allow_empty_classes) data += " --allow-empty-classes";
  if (!options.val_labels.empty()) data += " --val-labels " + cli::shell_word(options.val_labels);
  if (options.skip_bad > 0) data += fmt::format(" --skip-bad {}", options.skip_bad);
  text += fmt::format("evaluate it: faq-eval --weights {} {}\n",
                      file(deployed ? integer_network_file : "best.safetensors"), data);
  if (deployed)
    text += fmt::format("export it:   faq-export {} --c {}\n", file(integer_network_file), file("c"));
  else
    text += fmt::format("quantize it: faq-train --config {} --weights {} --preset faq-8bit --output-dir {}\n",
                        file("config.json"), file("best.safetensors"),
                        cli::shell_word(folder.lexically_normal().string() + "-8bit"));
  return text;
}

}  // namespace faq
