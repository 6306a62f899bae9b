// What a run leaves in its folder beside its networks.
#pragma once

#include <vector>

#include "train/metrics.h"
#include "train/run_report.h"
#include "train/tensorboard.h"

namespace faq {

/// Writes metrics.jsonl and summary.csv, events for TensorBoard, and report.html.
class RunFiles {
 public:
  /// `progress` hears of the run as well; it must live as long. `stop`: as RunReport's.
  explicit RunFiles(RunListener& progress, StopToken stop = {})
      : progress_(progress), report_(progress, std::move(stop)) {}

  /// For RunContext, in the order in which they must hear of the run. They live as long as this.
  std::vector<RunListener*> listeners() { return {&metrics_, &events_, &report_, &progress_}; }
  /// As RunReport::details().
  const nlohmann::json& details() const { return report_.details(); }

 private:
  RunListener& progress_;
  Metrics metrics_;
  TensorBoard events_;
  RunReport report_;
};

}  // namespace faq
