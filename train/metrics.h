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

}  // namespace faq
