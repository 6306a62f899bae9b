// Loads batches. Worker threads prepare them ahead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/dataset.h"
#include "data/transforms.h"

namespace faq {

struct LoaderOptions {
  std::int64_t batch_size = 128;
  int workers = 2;        ///< 0: prepare batches in the calling thread
  int prefetch = 4;       ///< number of batches prepared ahead
  bool training = false;  ///< shuffle, augment, drop the last partial batch (unless it is the only one)
  TransformOptions transform = {};
  std::uint64_t seed = 0;
  std::int64_t skip_bad = 0;  ///< number of bad images that may be skipped before it is an error
  int shards = 1;             ///< in training: batches that make a step, over all ranks; the ranks divide it
  int rank = 0;               ///< rank among `ranks` processes
  int ranks = 1;
};

/// The batches ("shards") of one training step.
struct StepShards {
  int begin = 0;  ///< this rank has shards begin to end − 1 of the step; it may have none
  int end = 0;
  int present = 0;          ///< shards of all ranks; fewer than LoaderOptions::shards in the last step
  std::int64_t images = 0;  ///< planned for each shard; skipped images are missing
  int own() const { return end - begin; }
  bool operator==(const StepShards&) const = default;
};

/// Whose batches a loader returns.
enum class Part {
  own,  ///< those of its rank
  all,  ///< those of all ranks, in the order of the epoch: the same on any number of ranks
};

/// Returns the batches of an epoch, one after the other, and of the next epochs. A sample depends only on
/// (seed, epoch, position in the data set), a batch only on (seed, epoch, number of the batch). The number of
/// workers never changes a bit.
///
/// The order of an epoch is cut into batches, whatever the number of ranks:
/// - Training: size / batch_size shards; if there are fewer samples than batch_size, one smaller shard. Step
///   s has the K = `shards` shards from number sK on; the last step may have fewer. Of each step, rank r of N
///   has shards rK/N to (r+1)K/N − 1. So K shards train the same network on any number of ranks that
///   divides K.
/// - Evaluation: all samples, in order; the last batch may be smaller. Each rank has a contiguous range of
///   the batches. Their numbers may differ by one, and a rank may have none.
class Loader {
 public:
  /// The data set must live as long.
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  /// The number of batches of this rank.
  std::int64_t batches_per_epoch() const;
  /// The largest number of batches of any rank.
  std::int64_t rounds_per_epoch() const;
  /// In training: the number of steps. All ranks have the same.
  std::int64_t steps_per_epoch() const;
  StepShards shards_of_step(std::int64_t step) const;

  /// Starts (or restarts) at batch `first_batch` of `part` of `epoch`.
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0, Part part = Part::own);
  /// In training: starts at this rank's first batch of a step. A resumed run continues in the middle of an
  /// epoch this way.
  void start_epoch_at_step(std::int64_t epoch, std::int64_t first_step);

  /// Returns the next batch of the epoch, or nothing at its end. Starts epoch 0 if start_epoch was never
  /// called. An exception of a worker is rethrown in place of the batch it belongs to (bad_data names the
  /// file), and again at each call until the next start_epoch.
  std::optional<Batch> next();

  /// The number of bad images skipped so far (at most skip_bad). An image counts once, in however many epochs
  /// it is met. A skipped image makes its batch smaller; nothing replaces it. A batch without any image left
  /// is skipped in evaluation. In training it is an error, because steps are counted.
  std::int64_t skipped() const;
  /// The index and the error message of each skipped image, in the order of their index.
  std::vector<std::pair<std::int64_t, std::string>> skipped_samples() const;
  /// The images met so far whose file has a fault, but all its pixels: they are used as any other. The index
  /// of each, and its name and Image::fault, in the order of their index.
  std::vector<std::pair<std::int64_t, std::string>> faulty_samples() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace faq
