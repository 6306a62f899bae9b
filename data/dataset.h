// Datasets: indexed images with labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"

namespace faq {

/// A Fisher-Yates shuffle of 0 to size − 1 drawn from (seed, epoch).
std::vector<std::int64_t> shuffled_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);
/// What reading shards front to back through a shuffle buffer gives: shards in an order drawn from (seed,
/// epoch); each sample leaves the buffer when its place is drawn for the next one read. Shard i ends before
/// sample ends[i]. A buffer as large as the data set shuffles everything.
std::vector<std::int64_t> buffered_order(std::span<const std::int64_t> ends, std::int64_t buffer,
                                         std::uint64_t seed, std::int64_t epoch);

/// `image(i)` may be called from many threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// Throws bad_data when it cannot be opened or decoded, io when reading it fails.
  virtual Image image(std::int64_t index) const = 0;
  virtual std::int32_t label(std::int64_t index) const = 0;
  /// What to call a sample in a message: a path, or file and index.
  virtual std::string name(std::int64_t index) const = 0;
  virtual const std::vector<std::string>& class_names() const = 0;
  /// Channels of every image handed out: 1 or 3, as DatasetOptions::channels asked for.
  virtual int channels() const = 0;
  /// The order in which training reads the samples of an epoch: a permutation drawn from (seed, epoch).
  virtual std::vector<std::int64_t> shuffled(std::uint64_t seed, std::int64_t epoch) const {
    return shuffled_order(size(), seed, epoch);
  }
  /// Whether image() is a copy from memory, which nothing is gained by caching.
  virtual bool in_memory() const { return false; }
};

enum class DatasetKind { automatic, image_folder, idx, cifar, tar };
enum class Split { train, val };

struct DatasetOptions {
  std::filesystem::path path;
  DatasetKind kind = DatasetKind::automatic;
  int channels = 3;  ///< wanted by the network; grey images are replicated, colour ones turned grey
  std::int64_t shuffle_buffer = 8192;  ///< of tar shards, in samples: their order is known, not their pixels
};

/// Opens one split of a data set. ImageFolder: `train/` and `val/` (or `test/`), one folder per class, sorted
/// by name, or for Split::val a folder of class folders itself when it has neither `train` nor `val`/`test`;
/// IDX: `train-images-idx3-ubyte[.gz]` and `t10k-…`; CIFAR binary: `data_batch_1.bin` … and `test_batch.bin`
/// (CIFAR-10), `train.bin` and `test.bin` (CIFAR-100, fine labels); tar: `train/*.tar` and `val/*.tar` (or
/// `train*.tar`, `val*.tar`) with members CLASS/FILE, or TRAIN-OR-VAL/CLASS/FILE, not compressed. `automatic`
/// recognises which by looking. Throws missing_input for a folder that does not exist, bad_data for an
/// unrecognised layout, an empty class (named), an empty split or an inconsistent file. When a `val/` folder
/// is opened next to a `train/` folder, both must have the same classes.
std::unique_ptr<Dataset> open_dataset(const DatasetOptions& options, Split split);

/// Decodes each image once and keeps the pixels, provided that all of them fit into `byte_budget`; gives up,
/// and holds nothing, as soon as it is clear that they will not. A data set that is in memory anyway is
/// returned as it is.
std::unique_ptr<Dataset> cached(std::unique_ptr<Dataset> dataset,
                                std::size_t byte_budget = std::size_t{1} << 30);

}  // namespace faq
