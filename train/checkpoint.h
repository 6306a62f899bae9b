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

/// Where a run stands: part of every checkpoint, as JSON.
struct Progress {
  std::int64_t epoch = 0;          ///< epochs finished
  std::int64_t step_in_epoch = 0;  ///< optimizer steps done in the next one
  std::int64_t step = 0;           ///< optimizer steps done in all
  int phase = -1;                  ///< the phase the network is in (see Method::phases); -1: none yet
  double best_top1 = -1;
  std::int64_t best_epoch = -1;
  // Of the unfinished epoch, for its summary.
  double loss_sum = 0;
  std::int64_t correct = 0;
  std::int64_t images = 0;
  nlohmann::json history =
      nlohmann::json::array();  ///< one object per finished epoch: the rows of summary.csv
};
nlohmann::json to_json(const Progress& progress);
Progress progress_from_json(const nlohmann::json& json, const std::string& source);
/// That of a checkpoint's metadata. Throws bad_data, naming the `source`.
Progress progress_in(const std::map<std::string, std::string>& metadata, const std::string& source);

/// What the names of a checkpoint's tensors begin with that are state of its training, not its network.
namespace state_prefix {
inline constexpr const char* momentum = "momentum/";
inline constexpr const char* teacher = "teacher/";
inline constexpr const char* average = "ema/";
inline constexpr const char* all[] = {momentum, teacher, average};
}  // namespace state_prefix

/// The network of a checkpoint: without the state of its training.
NamedTensors network_in(const NamedTensors& checkpoint);
/// The same with the moving average of a run with --model-ema in the place of the network in training. Throws
/// usage when the checkpoint has none.
NamedTensors average_in(const NamedTensors& checkpoint, const std::string& source);
/// Copies a tensor of that state into the one that holds it. Throws bad_data when it is missing or misshapen.
void copy_state(const NamedTensors& checkpoint, const std::string& source, const std::string& name,
                Tensor& to);
/// The same without quantizers: what another run can start from.
NamedTensors weights_in(const NamedTensors& checkpoint);

/// A checkpoint by its header alone.
struct CheckpointHeader {
  std::filesystem::path file;
  std::map<std::string, std::string> metadata;
  std::int64_t step = 0;
};
/// Called with one line for what is passed over.
using Warn = std::function<void(const std::string&)>;
/// Those of an output folder that one could continue from, the furthest first. One whose header cannot be
/// read is passed over.
std::vector<CheckpointHeader> checkpoints_in(const std::filesystem::path& folder, const Warn& warn);
/// The first of them; nothing when there are no checkpoints at all. Throws bad_data when there are some and
/// of none the header can be read.
std::optional<CheckpointHeader> furthest_checkpoint(const std::filesystem::path& folder);

/// The checkpoints of one output folder: `checkpoint-N.safetensors` (N optimizer steps), of which the newest
/// `keep` are kept besides `last.safetensors`; `best.safetensors` holds the network of the best epoch without
/// the optimizer. All writing is atomic. One process at a time may own a folder.
class CheckpointFolder {
 public:
  /// Creates and locks the folder and removes what killed runs left half written; throws usage when another
  /// run holds it, io when it cannot be written.
  CheckpointFolder(std::filesystem::path folder, int keep);
  ~CheckpointFolder();
  CheckpointFolder(const CheckpointFolder&) = delete;
  CheckpointFolder& operator=(const CheckpointFolder&) = delete;

  const std::filesystem::path& path() const { return folder_; }
  /// These return the file that was written.
  std::filesystem::path save_last(const NamedTensors& contents) const;
  std::filesystem::path save_best(const NamedTensors& contents) const;
  /// Saves checkpoint-`step` and removes older ones beyond `keep`; last.safetensors if none are kept.
  std::filesystem::path save_step(const NamedTensors& contents, std::int64_t step) const;

  struct Found {
    std::filesystem::path file;
    NamedTensors contents;
  };
  /// The furthest checkpoint that can be read; others are passed over. Nothing when there are no checkpoints
  /// at all; throws bad_data when there are some and none can be read.
  std::optional<Found> newest(const Warn& warn) const;
  /// Whether there are any, readable or not.
  bool holds_checkpoints() const;

 private:
  std::filesystem::path folder_;
  int keep_;
  int lock_ = -1;
};

}  // namespace faq
