// Loads batches. Worker threads prepare them ahead.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
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
  int rank = 0;  ///< rank among `ranks` processes; each loads its share; the batch size is per process
  int ranks = 1;
};

/// Returns the batches of an epoch, one after the other, and of the next epochs. A sample depends only on
/// (seed, epoch, position in the data set), a batch only on (seed, epoch, batch index). The number of workers
/// never changes a bit.
///
/// Several ranks in training: all ranks share one order, its next ranks * batch_size samples make batch b of
/// all ranks, and all ranks have the same number of batches. In evaluation each rank has a contiguous share
/// of the samples, in order. The shares may differ by one sample, so the numbers of batches may differ by
/// one.
class Loader {
 public:
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  std::int64_t batches_per_epoch() const;

  /// Starts (or restarts) at batch `first_batch` of `epoch`. A resumed run continues in the middle of an
  /// epoch this way.
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0);

  /// Returns the next batch of the epoch, or nothing at its end. Starts epoch 0 if start_epoch was never
  /// called. An exception of a worker is rethrown in place of the batch it belongs to (bad_data names the
  /// file), and again at each call until the next start_epoch.
  std::optional<Batch> next();

  /// The number of bad images skipped so far (at most skip_bad). An image counts once, in however many epochs
  /// it is met. A skipped image makes its batch smaller; nothing replaces it. A batch without any image left
  /// is skipped in evaluation. In training it is an error, because steps are counted.
  std::int64_t skipped() const;
  /// The error message of each skipped image, in the order of their index.
  std::vector<std::string> skipped_names() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace faq
