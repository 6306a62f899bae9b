// Checkpoints: everything a run needs to continue with the same bits.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/safetensors.h"

namespace faq {

/// The position of a run. Every checkpoint has it, as JSON.
struct Progress {
  std::int64_t epoch = 0;          ///< epochs finished
  std::int64_t step_in_epoch = 0;  ///< optimizer steps done in the unfinished epoch
  std::int64_t step = 0;           ///< optimizer steps done in total
  int phase = -1;                  ///< the phase of the network (see Method::phases); -1: none yet
  double best_top1 = -1;
  std::int64_t best_epoch = -1;
  // Sums of the unfinished epoch, for its summary.
  double loss_sum = 0;
  double divergence_sum = 0;  ///< the part of loss_sum that a teacher adds
  std::int64_t correct = 0;
  std::int64_t images = 0;
  nlohmann::json history = nlohmann::json::array();  ///< one object per finished epoch, a row of summary.csv
};
nlohmann::json to_json(const Progress& progress);
Progress progress_from_json(const nlohmann::json& json, const std::string& source);
/// Reads the progress from a checkpoint's metadata. Throws bad_data with `source`.
Progress progress_in(const std::map<std::string, std::string>& metadata, const std::string& source);

/// Prefixes of the names of tensors that hold the state of training, not the network.
namespace state_prefix {
inline constexpr const char* momentum = "momentum/";
inline constexpr const char* teacher = "teacher/";
inline constexpr const char* average = "ema/";
inline constexpr const char* all[] = {momentum, teacher, average};
}  // namespace state_prefix

/// Returns the network of a checkpoint, without the state of training.
NamedTensors network_in(const NamedTensors& checkpoint);
/// The same, with the moving average of a run with --model-ema instead of the network in training. Throws
/// usage when the checkpoint has no average.
NamedTensors average_in(const NamedTensors& checkpoint, const std::string& source);
/// Copies a tensor of the state of training into `to`. Throws bad_data when it is missing or misshapen.
void copy_state(const NamedTensors& checkpoint, const std::string& source, const std::string& name,
                Tensor& to);
/// Returns the network without quantizers: the weights that another run can start from.
NamedTensors weights_in(const NamedTensors& checkpoint);

/// A checkpoint of which only the header was read.
struct CheckpointHeader {
  std::filesystem::path file;
  std::map<std::string, std::string> metadata;
  std::int64_t step = 0;
};
/// Called with one line for each checkpoint that is ignored.
using Warn = std::function<void(const std::string&)>;
/// Returns the checkpoints of an output folder, the one with the most steps first. A checkpoint whose header
/// cannot be read is ignored.
std::vector<CheckpointHeader> checkpoints_in(const std::filesystem::path& folder, const Warn& warn);
/// Returns the first of them, or nothing when there are no checkpoints at all. Throws bad_data when there are
/// checkpoints but none has a readable header.
std::optional<CheckpointHeader> furthest_checkpoint(const std::filesystem::path& folder);

/// The deployed network of a run, beside its checkpoints.
inline constexpr const char* integer_network_file = "integer.safetensors";

/// The checkpoints of one output folder. One process at a time may own a folder. All writing is atomic. The
/// files:
/// - `checkpoint-N.safetensors` (N optimizer steps), of which the newest `keep` are kept.
/// - `last.safetensors`.
/// - `best.safetensors`: the network of the best epoch, without the optimizer.
class CheckpointFolder {
 public:
  /// Creates and locks the folder, and removes half-written files of killed runs. Throws usage when another
  /// run holds the folder, io when it cannot be written.
  CheckpointFolder(std::filesystem::path folder, int keep);
  ~CheckpointFolder();
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }
  /// The save_ functions return the file they wrote.
  std::filesystem::path save_last(const NamedTensors& contents) const;
  std::filesystem::path save_best(const NamedTensors& contents) const;
  /// Saves checkpoint-`step` and removes older ones beyond `keep`. With `keep` 0 it saves last.safetensors
  /// instead.
  std::filesystem::path save_step(const NamedTensors& contents, std::int64_t step) const;

  struct Found {
    std::filesystem::path file;
    NamedTensors contents;
  };
  /// Returns the checkpoint with the most steps that can be read; others are ignored. Returns nothing when
  /// there are no checkpoints at all. Throws bad_data when there are some and none can be read.
  std::optional<Found> newest(const Warn& warn) const;
  /// True if there is a checkpoint, readable or not, or the best network of a run, in floating point or in
  /// integers.
  bool holds_run() const;
  /// For a folder without checkpoints that a run is to go on in. Throws bad_data if an earlier run has left
  /// its best network there, or that in integers, which would be lost; warns if that is of its first epoch,
  /// at whose end it was killed, and returns what it says of its run.
  std::optional<CheckpointHeader> check_begins_anew(const Warn& warn) const;

 private:
  std::filesystem::path folder_;
  int keep_;
  int lock_ = -1;
};

}  // namespace faq
