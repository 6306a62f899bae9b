// The output folder of a run: what the run reads from it at the start, and writes to it later. Of several
// ranks, the first one owns the folder and writes; on the others all writing does nothing.
#pragma once

#include <optional>
#include <string>

#include "train/checkpoint.h"
#include "train/options.h"
#include "train/ranks/communicator.h"
#include "train/run_listener.h"
#include "train/run_record.h"

namespace faq {

class RunFolder {
 public:
  /// Creates and locks the folder. Throws usage when the folder holds another run, or a run that should be
  /// resumed. All arguments must outlive it.
  RunFolder(const TrainOptions& options, const RunRecord& record, RunListener& listener, Communicator& ranks);

  const std::filesystem::path& path() const { return path_; }
  /// Returns the checkpoint that the run resumes from; nothing for a new run. The first rank chooses it for
  /// all.
  std::optional<CheckpointFolder::Found> find_checkpoint() const;
  /// True if the run resumes in the folder that its checkpoint is in.
  bool goes_on_here() const { return goes_on_here_; }

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
  Communicator& ranks_;
  std::filesystem::path path_;
  std::optional<CheckpointFolder> checkpoints_;  ///< of the first rank
  bool goes_on_here_ = false;
};

}  // namespace faq
