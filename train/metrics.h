// Writes the figures of a run into its folder.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "train/run_listener.h"

namespace faq {

/// Writes metrics.jsonl (one object per line, appended) and summary.csv (rewritten from the history each
/// time) into the folder of the run. One object may listen to several runs, one after the other.
class Metrics final : public RunListener {
 public:
  /// For a resumed run, keeps the lines of metrics.jsonl but those whose "step" is beyond the step of the
  /// run, which the run writes again, and a last one that was cut short.
  void started(const RunStarted& event) override;
  /// step() and epoch() throw io when they cannot write.
  void step(const StepDone& event) override;
  void epoch(const EpochDone& event) override;

 private:
  void append(const nlohmann::json& line);

  std::filesystem::path folder_;
  std::ofstream lines_;
};

}  // namespace faq
