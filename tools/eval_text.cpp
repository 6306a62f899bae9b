#include "tools/eval_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <map>
#include <sstream>

#include "core/json.h"
#include "core/printable.h"
#include "tools/cli.h"

namespace faq {

using nlohmann::json;

namespace {

struct NamedClasses {
  std::vector<std::string> folders, names;       ///< of each line; the same where a line has one column
  std::map<std::string, std::string> by_folder;  ///< of lines with two columns
};

NamedClasses read_classes(const std::string& file) {
  std::istringstream in(in_utf8(cli::read_text("class names", file)));
  NamedClasses classes;
  for (std::string line; std::getline(in, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.empty() && in.peek() == std::istringstream::traits_type::eof()) break;  // an empty last line
    const auto tab = line.find('\t');
    classes.folders.push_back(line.substr(0, tab));
    classes.names.push_back(tab == std::string::npos ? line : line.substr(tab + 1));
    if (tab == std::string::npos) continue;
    check(classes.by_folder.emplace(classes.folders.back(), classes.names.back()).second, ErrorKind::bad_data,
          "class names ", file, ": folder ", classes.folders.back(), " twice");
  }
  return classes;
}

void check_lines(const std::string& file, std::size_t lines, int classes) {
  check(static_cast<int>(lines) == classes, ErrorKind::bad_data, "class names ", file, ": ", lines,
        " lines, the network has ", classes, " classes");
}

}  // namespace

std::vector<std::string> read_class_folders(const std::string& file, int classes) {
  std::vector<std::string> folders = read_classes(file).folders;
  check_lines(file, folders.size(), classes);
  return folders;
}

ClassNames read_class_names(const std::string& file, const std::vector<std::string>& folders, int classes) {
  NamedClasses known = read_classes(file);
  std::map<std::string, std::string>& by_folder = known.by_folder;
  if (by_folder.empty() || folders.empty()) {
    check_lines(file, known.names.size(), classes);
    return {known.names};
  }
  check(std::ranges::any_of(folders, [&](const std::string& folder) { return by_folder.contains(folder); }),
        ErrorKind::bad_data, "class names ", file, ": no line is about a class of the data: expected ",
        folders.front(), " and others, found ", by_folder.begin()->first, " and others");
  std::vector<std::string> names;
  for (const std::string& folder : folders)
    names.push_back(by_folder.contains(folder) ? by_folder[folder] : folder);
  return {names};
}

json evaluation_json(const Network& network, const Evaluation& e, std::int64_t skipped, std::int64_t faulty) {
  return {{"top1", e.top1},
          {"top5", e.top5},
          {"loss", e.loss},
          {"images", e.images},
          {"images_per_s", e.images_per_s},
          {"skipped", skipped},
          {"recoverable_faults", faulty},
          {"kind", network.kind}};
}

json per_class_json(const Scores& scores, const ClassNames& names, std::size_t classes) {
  json rows = json::array();
  for (std::size_t k = 0; k < classes; ++k) {
    const Evaluation of = scores.of_class(static_cast<std::int32_t>(k));
    rows.push_back({{"class", names.of(k)},
                    {"images", of.images},
                    {"top1", of.top1},
                    {"top5", of.top5},
                    {"loss", of.loss}});
  }
  return rows;
}

json confusion_json(const Confusion& confusion, const ClassNames& names, std::size_t classes) {
  json result{{"classes", json::array()}, {"cells", json::array()}};
  for (std::size_t k = 0; k < classes; ++k) result["classes"].push_back(names.of(k));
  for (const Confusion::Cell& cell : confusion.cells())
    result["cells"].push_back({cell.label, cell.predicted, cell.images});
  return result;
}

namespace {

// Of few classes the matrix, a row for each; of many the pairs that are confused most.
std::string confusion_text(const json& confusion) {
  constexpr std::size_t most_columns = 20, most_pairs = 20;
  std::vector<std::string> names;
  for (const json& name : confusion["classes"]) names.push_back(printable(name.get<std::string>()));
  std::vector<Confusion::Cell> cells;
  for (const json& cell : confusion["cells"]) cells.push_back({cell[0], cell[1], cell[2]});
  const auto name_of = [&](std::int32_t k) -> const std::string& {
    return names[static_cast<std::size_t>(k)];
  };
  std::string text;
  if (names.size() > most_columns) {
    std::erase_if(cells, [](const auto& cell) { return cell.label == cell.predicted; });
    std::ranges::stable_sort(cells, std::greater<>(), &Confusion::Cell::images);
    if (cells.size() > most_pairs) cells.resize(most_pairs);
    text = fmt::format("{:<28} {:<28} {:>7}\n", "class", "taken for", "images");
    for (const auto& cell : cells)
      text += fmt::format("{:<28} {:<28} {:>7}\n", name_of(cell.label), name_of(cell.predicted), cell.images);
    return text;
  }
  text = fmt::format("{:<28}", "class, taken for number");
  for (std::size_t k = 0; k < names.size(); ++k) text += fmt::format(" {:>6}", k);
  text += "\n";
  for (std::size_t k = 0; k < names.size(); ++k) {
    std::vector<std::int64_t> row(names.size());
    for (const auto& cell : cells)
      if (cell.label == static_cast<std::int32_t>(k))
        row[static_cast<std::size_t>(cell.predicted)] = cell.images;
    text += fmt::format("{:>3} {:<24}", k, names[k]);
    for (const std::int64_t images : row) text += fmt::format(" {:>6}", images);
    text += "\n";
  }
  return text;
}

}  // namespace

std::string evaluation_text(const json& e) {
  const auto skipped = e["skipped"].get<std::int64_t>();
  std::string text =
      fmt::format("{}: top-1 {:.2f}  top-5 {:.2f}  loss {:.4f}  {} images{}  {:.0f} images/s\n",
                  e["kind"].get<std::string>(), e["top1"].get<double>(), e["top5"].get<double>(),
                  e["loss"].get<double>(), e["images"].get<std::int64_t>(),
                  skipped > 0 ? fmt::format(" ({} skipped)", skipped) : "", e["images_per_s"].get<double>());
  if (const auto faulty = e["recoverable_faults"].get<std::int64_t>(); faulty > 0)
    text += fmt::format("images with recoverable faults: {}\n", faulty);
  if (e.contains("confusion")) text += confusion_text(e["confusion"]);
  if (!e.contains("classes")) return text;
  text += fmt::format("{:<28} {:>7} {:>7} {:>7} {:>8}\n", "class", "images", "top-1", "top-5", "loss");
  for (const json& row : e["classes"])
    text += fmt::format("{:<28} {:>7} {:>7.2f} {:>7.2f} {:>8.4f}\n",
                        printable(row["class"].get<std::string>()), row["images"].get<std::int64_t>(),
                        row["top1"].get<double>(), row["top5"].get<double>(), row["loss"].get<double>());
  return text;
}

json prediction_json(const std::string& file, const Prediction& prediction, const ClassNames& names) {
  json best = json::array();
  for (const Guess& guess : prediction.guesses)
    best.push_back({{"class", names.of(static_cast<std::size_t>(guess.index))},
                    {"index", guess.index},
                    {"probability", guess.probability}});
  json row{{"file", file}, {"top5", best}};
  if (!prediction.fault.empty()) row["fault"] = prediction.fault;
  return row;
}

std::string predictions_text(const json& result) {
  std::string text;
  for (const json& row : result["predictions"]) {
    text += printable(row["file"].get<std::string>()) + ":";
    for (const json& guess : row["top5"])
      text += fmt::format("  {} {:.1f} %", printable(guess["class"].get<std::string>()),
                          100 * guess["probability"].get<double>());
    if (row.contains("fault"))
      text += fmt::format("  (recoverable fault: {})", printable(row["fault"].get<std::string>()));
    text += "\n";
  }
  return text;
}

json export_json(const Network& network, const IntegerNetwork& exported, const std::string& file) {
  return {{"kind", network.kind},
          {"model", network.model},
          {"epoch", network.epoch},
          {"file", file},
          {"bytes", std::filesystem::file_size(file)},
          {"input", {exported.height(), exported.width(), exported.channels()}}};
}

std::string export_text(const json& e) {
  return fmt::format("{}: {} after epoch {}, as an integer network for images of {}x{} ({} bytes)\n",
                     printable(e["file"].get<std::string>()), e["kind"].get<std::string>(),
                     e["epoch"].get<int>(), e["input"][0].get<int>(), e["input"][1].get<int>(),
                     e["bytes"].get<std::uint64_t>());
}

json comparison_json(const Network& a, const Network& b, const Comparison& c) {
  json layers = json::array();
  for (const auto& layer : c.layers)
    layers.push_back({{"name", layer.name}, {"difference", layer.difference}});
  return {{"kind", a.kind},
          {"other", b.kind},
          {"images", c.images},
          {"agreement", 100.0 * static_cast<double>(c.agreeing) / static_cast<double>(c.images)},
          {"first_diverging_layer", c.first_diverging},
          {"layers", layers}};
}

std::string comparison_text(const json& c) {
  std::string text = fmt::format("{} and {} agree on {:.2f} % of {} images\n", c["kind"].get<std::string>(),
                                 c["other"].get<std::string>(), c["agreement"].get<double>(),
                                 c["images"].get<std::int64_t>());
  const auto first = c["first_diverging_layer"].get<std::string>();
  text += first.empty() ? "no layer differs in a bit\n"
                        : "the first layer that differs: " + printable(first) + "\n";
  for (const json& row : c["layers"])
    text += fmt::format("{:<40} {:>12.3e}\n", printable(row["name"].get<std::string>()),
                        row["difference"].get<double>());
  return text;
}

}  // namespace faq
