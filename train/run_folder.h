// The output folder of a run: what the run reads from it at the start, and writes to it later.
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
  /// Creates and locks the folder. Throws usage when the folder holds another run, or a run that should be
  /// resumed. `options`, `record` and `listener` must outlive it.
  RunFolder(const TrainOptions& options, const RunRecord& record, RunListener& listener);

  const std::filesystem::path& path() const { return checkpoints_.path(); }
  /// Returns the checkpoint that the run resumes from; nothing for a new run.
  std::optional<CheckpointFolder::Found> find_checkpoint() const;
  /// True if the run resumes in the folder that its checkpoint is in.
  bool goes_on_here() const;

  /// Writes config.json and run.json.
  void write_config(const std::string& command) const;
  /// The metadata about the run that every checkpoint has.
  NamedTensors about_run(const Progress& progress) const;
  void save_last(const NamedTensors& contents, std::int64_t step) const;
  void save_best(const NamedTensors& contents, std::int64_t step) const;
  void save_step(const NamedTensors& contents, std::int64_t step) const;
  /// The file of the checkpoint with the most steps that has a readable header, or "none".
  std::string last_good() const;

 private:
  const TrainOptions& options_;
  const RunRecord& record_;
  RunListener& listener_;
  CheckpointFolder checkpoints_;
};

}  // namespace faq
