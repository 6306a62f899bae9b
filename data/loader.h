// Batches, prepared ahead by worker threads.
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
  int prefetch = 4;       ///< batches prepared ahead
  bool training = false;  ///< shuffle, augment, drop the last partial batch unless it is the only one
  TransformOptions transform = {};
  std::uint64_t seed = 0;
  std::int64_t skip_bad = 0;  ///< how many bad images may be skipped before it is an error
  int rank = 0;               ///< of `ranks` processes; each loads its share, the batch size is per process
  int ranks = 1;
};

/// Hands out the batches of one epoch after the other. A sample depends on (seed, epoch, position in the data
/// set) only, a batch on (seed, epoch, batch index) only: the number of workers never changes a bit.
///
/// Several ranks: in training, the next ranks * batch_size samples of one common order make batch b of all
/// ranks together, and all ranks have equally many batches. In evaluation each rank has a contiguous share of
/// the samples, in order; the shares, and so the numbers of batches, may differ by one.
class Loader {
 public:
  Loader(const Dataset& dataset, const LoaderOptions& options);
  ~Loader();
  Loader(const Loader&) = delete;
  Loader& operator=(const Loader&) = delete;

  std::int64_t batches_per_epoch() const;

  /// Starts (or restarts) at batch `first_batch` of `epoch`: how a resumed run continues in the middle.
  void start_epoch(std::int64_t epoch, std::int64_t first_batch = 0);

  /// The next batch of the epoch, or nothing at its end. Begins epoch 0 when start_epoch was never called.
  /// Rethrows what went wrong in a worker in place of the batch it belongs to (bad_data names the file), and
  /// again until the next start_epoch.
  std::optional<Batch> next();

  /// Bad images skipped so far (at most skip_bad), each counted once however many epochs meet it. A
  /// skipped image leaves its batch smaller; nothing is substituted. A batch of which nothing is left is
  /// passed over in evaluation and an error in training, where steps are counted.
  std::int64_t skipped() const;
  /// What went wrong with each of them, in the order of their index.
  std::vector<std::string> skipped_names() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace faq
