// Writes report.html, the page about a run, into its folder.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "train/options.h"
#include "train/run_listener.h"
#include "train/stop_token.h"

namespace faq {

/// Writes report.html when a run has finished or was stopped, with what Metrics has written, which must hear
/// of the run first. Of a finished run with `report` full it first evaluates the networks once more
/// (train/report_details.h) and writes report.json, from which report_page() can make the page again.
class RunReport final : public RunListener {
 public:
  /// `progress` hears of the evaluations, and of what the page lacks; it must outlive the report. A stop ends
  /// the evaluations, not the run, which is finished.
  explicit RunReport(RunListener& progress, StopToken stop = {})
      : progress_(progress), stop_(std::move(stop)) {}

  void started(const RunStarted& event) override;
  /// What earlier pages say is of another network from now on: they are removed.
  void epoch(const EpochDone& event) override;
  /// Throws io when a file cannot be written.
  void finished(const RunFinished& event) override;

  /// What was found; null unless the run has finished with `report` full.
  const nlohmann::json& details() const { return details_; }

 private:
  RunListener& progress_;
  StopToken stop_;
  std::optional<TrainOptions> options_;
  nlohmann::json details_;
};

}  // namespace faq
