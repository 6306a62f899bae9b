#include "train/report_page.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "core/error.h"
#include "core/json.h"
#include "core/regular_file.h"
#include "core/text.h"
#include "train/option_table.h"
#include "train/quantized_training.h"
#include "train/report_parts.h"  // made from train/report by CMake
#include "train/run_record.h"
#include "train/schedule.h"

namespace faq {
namespace {

using nlohmann::json;

constexpr std::int64_t most_bytes = std::int64_t{1} << 30;  // of metrics.jsonl, as Metrics reads it
constexpr std::size_t most_points = 800;                    // of a curve
constexpr std::size_t longest_text = 2000;                  // of a value of config.json or run.json

// --- the files

// What is not there cannot be read; it is missing, not damaged.
std::string text_in(const std::filesystem::path& folder, const char* name) {
  return read_text_file(folder / name, "run: ", most_bytes);
}

json object_in(const std::filesystem::path& folder, const char* name) {
  const std::string what = concat("run: ", folder / name);
  json object = parse_json(text_in(folder, name), what);
  check(object.is_object(), ErrorKind::bad_data, what, ": expected a JSON object, found ",
        object.type_name());
  return object;
}

// Rows of a curve, as many as can be seen; the first and the last stay.
json thinned(json rows) {
  const std::size_t every = rows.size() / most_points + 1;
  if (every == 1) return rows;
  json few = json::array();
  for (std::size_t i = 0; i < rows.size(); ++i)
    if (i % every == 0 || i + 1 == rows.size()) few.push_back(std::move(rows[i]));
  return few;
}

json with_short_texts(json object) {
  for (json& value : object)
    if (value.is_string()) value = shortened(value.get<std::string>(), longest_text);
  return object;
}

// The columns of summary.csv are looked up by their names; a file of another version may have more.
json epochs_in(const std::filesystem::path& folder) {
  const std::string what = concat("run: ", folder / "summary.csv");
  std::vector<std::string> lines = split(text_in(folder, "summary.csv"), '\n');
  if (lines.back().empty()) lines.pop_back();
  check(!lines.empty(), ErrorKind::bad_data, what, ": empty");
  const std::vector<std::string> columns = split(lines.front());
  for (const char* needed : {"epoch", "val_loss", "top1", "top5"})
    check(std::ranges::find(columns, needed) != columns.end(), ErrorKind::bad_data, what, ": no column ",
          needed);
  json rows = json::array();
  for (std::size_t i = 1; i < lines.size(); ++i) {
    const std::vector<std::string> values = split(lines[i]);
    check(values.size() == columns.size(), ErrorKind::bad_data, what, ", line ", i + 1, ": ", values.size(),
          " values, expected ", columns.size());
    json row = json::object();
    for (std::size_t k = 0; k < columns.size(); ++k) {
      if (values[k].empty()) continue;
      double number = 0;
      const char* end = values[k].data() + values[k].size();
      const auto read = std::from_chars(values[k].data(), end, number);
      check(read.ec == std::errc() && read.ptr == end && std::isfinite(number), ErrorKind::bad_data, what,
            ", line ", i + 1, ": '", shortened(values[k], 40), "' is no number");
      row[columns[k]] = number;
    }
    for (const char* needed : {"epoch", "top1"})
      check(row.contains(needed), ErrorKind::bad_data, what, ", line ", i + 1, ": no ", needed);
    const auto epoch = row["epoch"].get<double>(), top1 = row["top1"].get<double>();
    check(epoch >= 0 && epoch == std::floor(epoch), ErrorKind::bad_data, what, ", line ", i + 1, ": epoch ",
          epoch);
    check(top1 >= 0 && top1 <= 100, ErrorKind::bad_data, what, ", line ", i + 1, ": top1 ", top1);
    rows.push_back(std::move(row));
  }
  return rows;
}

// The lines about steps; those about epochs are in summary.csv, too.
json steps_in(const std::filesystem::path& folder) {
  const std::string what = concat("run: ", folder / "metrics.jsonl");
  const std::vector<std::string> lines = split(text_in(folder, "metrics.jsonl"), '\n');
  json steps = json::array();
  for (std::size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].empty()) continue;
    const json line = json::parse(lines[i], nullptr, false);
    if (i + 1 == lines.size() && !line.is_object()) break;  // a killed run had begun to write it
    check(line.is_object(), ErrorKind::bad_data, what, ", line ", i + 1, ": expected a JSON object");
    if (line.contains("val_loss")) continue;
    json point = json::object();
    for (const char* key : {"epoch", "train_loss", "train_top1", "lr"}) {
      const auto value = line.find(key);
      if (value == line.end() || value->is_null()) continue;
      check(value->is_number(), ErrorKind::bad_data, what, ", line ", i + 1, ": ", key, " is no number");
      point[key] = *value;
    }
    if (point.contains("epoch")) steps.push_back(std::move(point));
  }
  return steps;
}

json phase_rows(const TrainOptions& options) {
  const auto method = make_method(options);
  json phases = json::array();
  const int count = method->phases();
  if (options.epochs < count) return phases;
  for (const Phase& phase : options.phase_epochs.empty() ? split_into_phases(options.epochs, count)
                                                         : phases_of(options.phase_epochs))
    phases.push_back(
        {{"begin", phase.begin}, {"end", phase.end}, {"network", method->describe(phase.index)}});
  return phases;
}

// A report.json of ours has these; what is in them is shown as text and numbers, whatever it is.
json details_in(const std::filesystem::path& folder) {
  std::error_code error;
  if (!std::filesystem::exists(folder / "report.json", error)) return nullptr;
  json details = object_in(folder, "report.json");
  const std::string what = concat("run: ", folder / "report.json");
  check(details.value("format", json()) == 1, ErrorKind::bad_data, what, ": expected format 1");
  for (const char* key : {"stages", "layers", "mistakes", "notes"})
    check(details.contains(key) && details[key].is_array(), ErrorKind::bad_data, what, ": no list ", key);
  for (const json& stage : details["stages"]) {
    check(stage.is_object() && stage.value("name", json()).is_string(), ErrorKind::bad_data, what,
          ": a stage without a name");
    for (const auto& [key, value] : stage.items())
      check(key == "name" || value.is_number(), ErrorKind::bad_data, what, ": ", key,
            " of a stage is no number");
  }
  return details;
}

// The row of the best network: that of the first epoch of the last phase with the largest accuracy, or of the
// start where nothing was trained. Null without rows.
json best_epoch(const json& epochs, const json& phases) {
  const std::int64_t begin = phases.empty() ? 0 : phases.back()["begin"].get<std::int64_t>();
  json best;
  for (const json& row : epochs)
    if (best.is_null() || (row["epoch"] > begin && (best["epoch"] <= begin || row["top1"] > best["top1"])))
      best = row;
  return best;
}

// Without report.json, the stages that summary.csv knows.
json stages_of(const json& epochs, const json& best, const json& details, bool quantized) {
  if (!details.is_null() && !details["stages"].empty()) return details["stages"];
  json stages = json::array();
  const auto add = [&](const char* name, const json& row) {
    json stage{{"name", name}};
    for (const auto& [from, to] :
         {std::pair("top1", "top1"), std::pair("top5", "top5"), std::pair("val_loss", "loss")})
      if (row.contains(from)) stage[to] = row[from];
    stages.push_back(std::move(stage));
  };
  if (epochs.empty()) return stages;
  if (epochs.front()["epoch"] == 0) add(quantized ? "calibrated" : "before training", epochs.front());
  if (epochs.back()["epoch"] != 0) add(quantized ? "fine-tuned" : "trained", best);
  return stages;
}

// --- tables that need no script

// `row` may be null.
std::string number(const json& row, const char* key, const char* format) {
  const auto found = row.find(key);
  if (found == row.end() || !found->is_number()) return "–";
  return fmt::format(fmt::runtime(format), found->get<double>());
}

std::string bytes_text(const json& row) {
  if (!row.contains("bytes")) return "–";
  const double bytes = row["bytes"];
  return bytes < 1e6 ? fmt::format("{:.0f} kB", bytes / 1e3) : fmt::format("{:.1f} MB", bytes / 1e6);
}

std::string table(const std::vector<std::string>& head, const std::vector<std::vector<std::string>>& rows) {
  std::string text = "<div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : head) text += "<th scope=\"col\">" + markup_text(cell) + "</th>";
  text += "</tr></thead><tbody>";
  for (const auto& row : rows) {
    text += "<tr>";
    for (const std::string& cell : row)
      text += (&cell == &row.front() ? "<th scope=\"row\">" : "<td>") + markup_text(cell) +
              (&cell == &row.front() ? "</th>" : "</td>");
    text += "</tr>";
  }
  return text + "</tbody></table></div>\n";
}

std::string stages_table(const json& run) {
  std::vector<std::vector<std::string>> rows;
  for (const json& s : run["stages"])
    rows.push_back({s["name"].get<std::string>(), number(s, "top1", "{:.2f} %"),
                    number(s, "top5", "{:.2f} %"), number(s, "loss", "{:.4f}"), bytes_text(s),
                    number(s, "images_per_s", "{:.0f}")});
  return table({"network", "top-1", "top-5", "loss", "size", "images/s"}, rows);
}

std::string epochs_table(const json& run) {
  std::vector<std::vector<std::string>> rows;
  for (const json& e : run["epochs"])
    rows.push_back({number(e, "epoch", "{:.0f}"), number(e, "train_loss", "{:.4f}"),
                    number(e, "val_loss", "{:.4f}"), number(e, "train_top1", "{:.2f}"),
                    number(e, "top1", "{:.2f}"), number(e, "lr", "{:.3g}")});
  return table(
      {"epoch", "training loss", "validation loss", "training top-1", "validation top-1", "learning rate"},
      rows);
}

// What the deployed network is made of: "4-bit weights, 4-bit activations", and in short "4, 4".
struct WidthTexts {
  std::string text, numbers;
};

WidthTexts widths_of(const TrainOptions& options) {
  if (options.scheme == Scheme::none) return {"floating point", "float"};
  const NumberFormat format = deployed_format(options);
  if (!format.quantize_activations)
    return {fmt::format("{}-bit weights, float activations", format.weight_bits),
            fmt::format("{}, float", format.weight_bits)};
  return {fmt::format("{}-bit weights, {}-bit activations{}", format.weight_bits, format.act_bits,
                      residual_note(format.residual_bits)),
          fmt::format("{}, {}{}", format.weight_bits, format.act_bits,
                      format.residual_bits > 0 ? fmt::format(" ({})", format.residual_bits) : "")};
}

const json* stage_of(const json& run, const std::string& name) {
  for (const json& stage : run["stages"])
    if (stage["name"] == name) return &stage;
  return nullptr;
}

std::string runs_table(const std::vector<json>& runs) {
  std::vector<std::vector<std::string>> rows;
  for (const json& run : runs) {
    const auto top1 = [&](const char* name) {
      const json* stage = stage_of(run, name);
      return stage == nullptr ? "–" : number(*stage, "top1", "{:.2f}");
    };
    const json& epochs = run["epochs"];
    const json& best = run["best"];
    rows.push_back({run["name"].get<std::string>(), number(best, "top1", "{:.2f} %"),
                    number(best, "epoch", "{:.0f}"),
                    epochs.empty() ? "–" : number(epochs.back(), "top1", "{:.2f}"), top1("float"),
                    top1("calibrated"), run["model"].get<std::string>(), run["bits"].get<std::string>(),
                    run["stages"].empty() ? "–" : bytes_text(run["stages"].back())});
  }
  return table(
      {"run", "best top-1", "epoch", "last", "float", "calibrated", "network", "bits (w, a)", "size"}, rows);
}

std::string value_text(const json& value) {
  return value.is_string() ? value.get<std::string>() : json_text(value);
}

std::string differences_table(const std::vector<json>& runs) {
  std::set<std::string> names;
  for (const json& run : runs)
    for (const auto& [name, value] : run["config"].items()) names.insert(name);
  std::vector<std::vector<std::string>> rows;
  for (const std::string& name : names) {
    std::vector<std::string> row{name};
    std::set<std::string> values;
    for (const json& run : runs) {
      const auto value = run["config"].find(name);
      row.push_back(value == run["config"].end() ? "–" : shortened(value_text(*value), 80));
      values.insert(value == run["config"].end() ? "–" : value_text(*value));
    }
    if (values.size() > 1) rows.push_back(std::move(row));
  }
  std::vector<std::string> head{"option"};
  for (const json& run : runs) head.push_back(run["name"]);
  return rows.empty() ? "<p class=\"quiet\">All options are the same.</p>\n" : table(head, rows);
}

// Two folders of the same name need more of their paths.
void name_runs(std::vector<json>& runs) {
  std::map<std::string, int> times;
  const auto last = [](const json& run) {
    const std::filesystem::path folder = run["folder"].get<std::string>();
    return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
  };
  for (const json& run : runs) ++times[last(run)];
  for (json& run : runs) run["name"] = times[last(run)] > 1 ? run["folder"].get<std::string>() : last(run);
}

// Fills the places @NAME@ of a template. What is filled in is not looked at again.
std::string filled(const std::string& text, const std::map<std::string, std::string>& parts) {
  std::string result;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t open = text.find('@', at);
    const std::size_t close = open == text.npos ? open : text.find('@', open + 1);
    if (close == text.npos) break;
    const auto part = parts.find(text.substr(open + 1, close - open - 1));
    check(part != parts.end(), "report: no part ", text.substr(open, close - open + 1));
    result += text.substr(at, open - at) + part->second;
    at = close + 1;
  }
  return result + text.substr(at);
}

}  // namespace

std::string script_json(const json& value) {
  // Outside of strings JSON has neither of them.
  std::string out;
  for (const char c : json_text(value)) {
    if (c == '<')
      out += "\\u003c";
    else if (c == '>')
      out += "\\u003e";
    else if (c == '&')
      out += "\\u0026";
    else
      out += c;
  }
  return out;
}

json read_run(const std::filesystem::path& folder) {
  std::error_code error;
  check(std::filesystem::is_directory(folder, error), ErrorKind::missing_input, "run: ", folder,
        " is no folder");
  json run{{"folder", folder.string()}, {"about", with_short_texts(object_in(folder, "run.json"))}};
  const json config = object_in(folder, "config.json");
  const std::string source = concat("run: ", folder / "config.json");
  const TrainOptions options = recorded_options(config, source);
  try {
    const auto [text, numbers] = widths_of(options);
    run["widths"] = text;
    run["bits"] = numbers;
    run["phases"] = phase_rows(options);
    run["model"] = options.model;
  } catch (const Error& damaged) {
    // Options that make no sense are the user's elsewhere, here the file's.
    fail(ErrorKind::bad_data, source, ": ", damaged.what());
  }
  run["config"] = with_short_texts(config);
  const json epochs = epochs_in(folder);
  run["best"] = best_epoch(epochs, run["phases"]);
  run["steps"] = thinned(steps_in(folder));
  run["details"] = details_in(folder);
  run["stages"] = stages_of(epochs, run["best"], run["details"], run["widths"] != "floating point");
  run["epochs"] = thinned(epochs);
  return run;
}

std::string report_page(std::vector<json> runs) {
  check(!runs.empty() && runs.size() <= most_runs_of_page, ErrorKind::usage, "report: ", runs.size(),
        " runs, expected 1 to ", most_runs_of_page);
  name_runs(runs);
  std::string title, subtitle, tables;
  if (runs.size() == 1) {
    const json& run = runs.front();
    title = run["model"];
    subtitle = run["widths"];
    tables = "<section id=\"results\"><h2>Results</h2>\n" + stages_table(run) + "</section>\n<noscript>" +
             "<section><h2>Epochs</h2>\n" + epochs_table(run) + "</section></noscript>\n";
  } else {
    const auto best = [](const json& run) {
      return run["best"].is_null() ? -1.0 : run["best"]["top1"].get<double>();
    };
    std::ranges::stable_sort(runs, std::greater<>(), best);
    for (json& run : runs) run["details"] = nullptr;  // its place is the run's own page
    title = fmt::format("{} runs", runs.size());
    subtitle = "best first";
    tables = "<section id=\"results\"><h2>Results</h2>\n" + runs_table(runs) +
             "</section>\n<section id=\"differences\"><h2>Different options</h2>\n" +
             differences_table(runs) + "</section>\n";
  }
  return filled(report_part("frame"), {{"TITLE", markup_text(title)},
                                       {"SUBTITLE", markup_text(subtitle)},
                                       {"STYLE", report_part("style")},
                                       {"TABLES", tables},
                                       {"DATA", script_json({{"runs", runs}})},
                                       {"SCRIPT", report_part("script")}});
}

}  // namespace faq
