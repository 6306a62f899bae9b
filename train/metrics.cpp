#include "train/metrics.h"

#include <fmt/format.h>

#include <string_view>
#include <system_error>
#include <vector>

#include "core/atomic_file.h"
#include "core/error.h"
#include "core/regular_file.h"
#include "core/text.h"

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

// Nothing if there is no such file, as in a folder that a run resumes in for the first time. What cannot be
// read is an error: it would be written over.
std::string lines_in(const std::filesystem::path& file) {
  constexpr std::int64_t most = std::int64_t{1} << 30;
  std::error_code error;
  const auto status = std::filesystem::symlink_status(file, error);
  if (status.type() == std::filesystem::file_type::not_found) return {};
  try {
    return read_text_file(file, "the figures of this run in", most);
  } catch (const Error& unread) {
    fail(ErrorKind::io, unread.what());
  }
}

// True for a line that the run will write again. One of an epoch that was validated after the last checkpoint
// is: its last step is in the checkpoint, the epoch is not.
bool comes_again(const nlohmann::json& json, const RunStarted& run) {
  const auto beyond = [&](const char* key, std::int64_t last) {
    return json.contains(key) && json[key].is_number_integer() && json[key].get<std::int64_t>() > last;
  };
  return json.is_object() &&
         (beyond("step", run.step) || (json.contains("val_loss") && beyond("epoch", run.epoch)));
}

}  // namespace

void Metrics::started(const RunStarted& run) {
  folder_ = run.folder;
  const auto file = folder_ / "metrics.jsonl";
  std::string kept;
  if (run.step > 0) {
    const std::vector<std::string> lines = split(lines_in(file), '\n');
    for (std::size_t i = 0; i < lines.size(); ++i) {
      const auto json = nlohmann::json::parse(lines[i], nullptr, false);
      const bool is_cut = i + 1 == lines.size() && !json.is_object();  // a killed run had begun to write it
      // What is damaged, or none of ours, is not ours to drop.
      if (!is_cut && !comes_again(json, run)) kept += lines[i] + '\n';
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
  nlohmann::json line{{"step", done.step},
                      {"epoch", done.epoch},
                      {"train_loss", done.train_loss},
                      {"train_top1", done.train_top1},
                      {"lr", done.lr},
                      {"images_per_s", done.images_per_s}};
  if (done.train_divergence) line["train_divergence"] = *done.train_divergence;
  append(line);
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
