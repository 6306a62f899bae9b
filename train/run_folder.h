// What a run reads from its output folder when it begins, and writes there as it goes.
#pragma once

#include <optional>
#include <string>

#include "train/checkpoint.h"
#include "train/options.h"
#include "train/run_listener.h"
#include "train/run_record.h"

namespace faq {

class RunFolder {
 public:
  /// Creates and locks the folder. Throws usage when it holds another run, or one that should be resumed.
  /// `options`, `record` and `listener` outlive it.
  RunFolder(const TrainOptions& options, const RunRecord& record, RunListener& listener);

  const std::filesystem::path& path() const { return checkpoints_.path(); }
  /// The one the run goes on from; nothing when it begins.
  std::optional<CheckpointFolder::Found> find_checkpoint() const;
  /// Whether the run goes on in the folder its checkpoint is from.
  bool goes_on_here() const;

  /// config.json and run.json.
  void write_config(const std::string& command) const;
  /// What every checkpoint says of the run.
  NamedTensors about_run(const Progress& progress) const;
  void save_last(const NamedTensors& contents, std::int64_t step) const;
  void save_best(const NamedTensors& contents, std::int64_t step) const;
  void save_step(const NamedTensors& contents, std::int64_t step) const;
  /// The newest checkpoint that can be read, or "none".
  std::string last_good() const;

 private:
  const TrainOptions& options_;
  const RunRecord& record_;
  RunListener& listener_;
  CheckpointFolder checkpoints_;
};

}  // namespace faq
