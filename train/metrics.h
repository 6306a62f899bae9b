// What a run writes down as it goes.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace faq {

/// metrics.jsonl, one object a line, appended; summary.csv, rewritten whole from the history.
class Metrics {
 public:
  /// Keeps the lines of an earlier part of the run whose "step" is at most `resume_step`; anything later is
  /// dropped, because the resumed run writes it again.
  Metrics(const std::filesystem::path& folder, std::int64_t resume_step);

  /// Throws io when the line cannot be written.
  void append(const nlohmann::json& line);
  void write_summary(const nlohmann::json& history) const;

 private:
  std::filesystem::path folder_;
  std::ofstream lines_;
};

/// Progress on stderr: a bar that redraws itself on a terminal, plain lines otherwise.
class ProgressDisplay {
 public:
  explicit ProgressDisplay(bool quiet);
  /// `done` of `total` steps of `title`; `figures` follow, e.g. "loss 0.31 top-1 89.1".
  void update(const std::string& title, std::int64_t done, std::int64_t total, double images_per_s,
              double seconds_left, const std::string& figures);
  /// A line of its own.
  void line(const std::string& text);

 private:
  bool quiet_;
  bool terminal_;
  bool open_ = false;
};

}  // namespace faq
