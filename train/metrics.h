// What a run writes down as it goes.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "train/run_listener.h"

namespace faq {

/// In the folder of the run: metrics.jsonl, one object a line, appended; summary.csv, rewritten whole from
/// the history. May hear several runs one after the other.
class Metrics final : public RunListener {
 public:
  /// Of a run that goes on, keeps the lines of metrics.jsonl whose "step" is at most its step; anything later
  /// is dropped, because the resumed run writes it again.
  void started(const RunStarted& event) override;
  /// This and the next throw io when they cannot write.
  void step(const StepDone& event) override;
  void epoch(const EpochDone& event) override;

 private:
  void append(const nlohmann::json& line);

  std::filesystem::path folder_;
  std::ofstream lines_;
};

}  // namespace faq
