#include "train/metrics.h"

#include <fmt/format.h>

#include <string_view>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"

namespace faq {
namespace {

constexpr const char* columns[] = {"epoch", "train_loss", "train_top1",   "val_loss", "top1",
                                   "top5",  "lr",         "images_per_s", "skipped",  "recoverable_faults"};

std::string csv(const nlohmann::json& history) {
  std::string text;
  for (const char* column : columns) text += fmt::format("{}{}", text.empty() ? "" : ",", column);
  text += '\n';
  for (const auto& row : history) {
    bool first = true;
    for (const char* column : columns) {
      text += first ? "" : ",";
      if (row.contains(column) && !row[column].is_null()) text += row[column].dump();
      first = false;
    }
    text += '\n';
  }
  return text;
}

}  // namespace

void Metrics::started(const RunStarted& run) {
  folder_ = run.folder;
  const auto file = folder_ / "metrics.jsonl";
  std::string kept;
  if (run.step > 0) {
    std::ifstream old(file);
    for (std::string line; std::getline(old, line);) {
      const auto json = nlohmann::json::parse(line, nullptr, false);
      if (json.is_object() && json.value("step", run.step + 1) <= run.step) kept += line + '\n';
    }
  }
  AtomicFile fresh(file);
  fresh.write(kept);
  fresh.commit();
  lines_ = std::ofstream(file, std::ios::app);
  check(lines_.good(), ErrorKind::io, "opening ", file, " for appending");
}

void Metrics::append(const nlohmann::json& line) {
  lines_ << line.dump() << '\n' << std::flush;
  check(lines_.good(), ErrorKind::io, "writing ", folder_ / "metrics.jsonl", " failed");
}

void Metrics::step(const StepDone& done) {
  if (!done.logged) return;
  append({{"step", done.step},
          {"epoch", done.epoch},
          {"train_loss", done.train_loss},
          {"train_top1", done.train_top1},
          {"lr", done.lr},
          {"images_per_s", done.images_per_s}});
}

void Metrics::epoch(const EpochDone& done) {
  nlohmann::json row = done.history.back();
  row["step"] = done.step;
  row["peak_bytes"] = done.peak_bytes;
  append(row);
  AtomicFile file(folder_ / "summary.csv");
  file.write(csv(done.history));
  file.commit();
}

}  // namespace faq
