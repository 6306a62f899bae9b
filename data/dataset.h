// Datasets: indexed images with labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "data/image.h"

namespace faq {

/// Returns a Fisher-Yates shuffle of 0 to size − 1, drawn from (seed, epoch).
std::vector<std::int64_t> shuffled_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch);
/// Returns the order in which samples leave a shuffle buffer while shards are read front to back. The order
/// of the shards is drawn from (seed, epoch). When the buffer is full, a random sample leaves it for the next
/// sample that is read. Shard i ends before sample ends[i]. A buffer as large as the data set shuffles
/// everything.
std::vector<std::int64_t> buffered_order(std::span<const std::int64_t> ends, std::int64_t buffer,
                                         std::uint64_t seed, std::int64_t epoch);

/// A data set. `image(i)` may be called from many threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  /// Returns an image. Throws bad_data when it cannot be opened or decoded, io when reading it fails.
  virtual Image image(std::int64_t index) const = 0;
  virtual std::int32_t label(std::int64_t index) const = 0;
  /// The name of a sample for messages: a path, or file and index.
  virtual std::string name(std::int64_t index) const = 0;
  /// UTF-8: what is not in the names of folders is replaced, so that these are the names that files record
  /// (in_utf8()).
  virtual const std::vector<std::string>& class_names() const = 0;
  /// The channels of every image that is returned: 1 or 3, as DatasetOptions::channels says.
  virtual int channels() const = 0;
  /// The order in which training reads the samples of an epoch: a permutation drawn from (seed, epoch).
  virtual std::vector<std::int64_t> shuffled(std::uint64_t seed, std::int64_t epoch) const {
    return shuffled_order(size(), seed, epoch);
  }
  /// True if image() copies from memory, so that caching gains nothing.
  virtual bool in_memory() const { return false; }
  /// The name of a sample below the folder of the data set, which may move; empty if samples have no names of
  /// their own.
  virtual std::string relative_name(std::int64_t /*index*/) const { return {}; }
  /// Lines for people, about what was found and not used, or used in a way that may surprise. A line may
  /// begin as a warning does.
  virtual std::vector<std::string> notes() const { return {}; }
};

enum class Split { train, val, test };
/// Opens a split of a data set.
using OpenSplit = std::function<std::unique_ptr<Dataset>(Split)>;

enum class DatasetKind { automatic, image_folder, idx, cifar, tar };

/// The order of classes that are named by folders or members: the class of index 0 comes first.
enum class ClassOrder {
  name,    ///< by the bytes of their names, as torchvision does: 0, 1, 10, 2
  natural  ///< runs of digits by their value: 0, 1, 2, 10
};

/// Returns the text that `make` makes. Where several processes open the same data set, only one of them calls
/// `make`, and all of them get its text: so one process searches the file system, and the others do not. The
/// calls come in the same order in all of these processes. What `make` throws is passed on.
using Once = std::function<std::string(const std::function<std::string()>& make)>;

struct DatasetOptions {
  std::filesystem::path path;
  DatasetKind kind = DatasetKind::automatic;
  int channels = 3;  ///< channels the network needs; grey images are replicated, colour images turned grey
  std::int64_t shuffle_buffer = 8192;  ///< size of the shuffle buffer of tar shards, in samples. The buffer
                                       ///< holds positions, not pixels.
  ClassOrder class_order = ClassOrder::name;
  /// Image folders: classes may have no images. A class that only train/ has is one of those.
  bool allow_empty_classes = false;
  /// Image folders: the file that has the classes of validation's images, which lie in one folder; empty:
  /// they lie in folders of their classes.
  std::filesystem::path val_labels = {};
  std::int64_t skip_bad = 0;  ///< the most images of kinds that are not read that are left out, in each split
  /// Called with what searches the file system: which layout it is, the listing of an image folder, the index
  /// of tar shards. The texts hold no paths above `path`, which may differ between machines.
  Once once = [](const std::function<std::string()>& make) { return make(); };
};

/// Opens one split of a data set. The layouts:
/// - ImageFolder: `train/`, `val/` (or `valid/`, `validation/`) and `test/` with one folder per class, sorted
///   by name. For Split::val also a folder of class folders itself, if it has none of these; or a `val/`
///   whose images lie in it, with a file that has their classes (DatasetOptions::val_labels,
///   data/labels_file.h).
/// - IDX: `train-images-idx3-ubyte[.gz]` and `t10k-…`.
/// - CIFAR binary: `data_batch_1.bin` … and `test_batch.bin` (CIFAR-10), or `train.bin` and `test.bin`
///   (CIFAR-100, fine labels).
/// - tar: `train/*.tar`, `val/*.tar` and `test/*.tar` (or `train*.tar` …), not compressed, with members
///   CLASS/FILE or SPLIT/CLASS/FILE; or, as WebDataset writes them, KEY.jpg (or .png) and KEY.cls, a text
///   with the number of the class or its name.
///
/// Of a data set in two parts, the second is its validation and its test split: `t10k-…`, and `test/` where
/// there is no `val/`.
///
/// What file systems and desktops leave behind is no class and no image (is_clutter in data/names.h). Images
/// of kinds that are not read, such as .webp, are an error, or are left out (DatasetOptions::skip_bad).
///
/// `automatic` recognises the layout from the files. Throws missing_input for a folder that does not exist.
/// Throws bad_data for an unknown layout, an empty class (with its name), an empty split or an inconsistent
/// file, or for a text of options.once that does not describe a data set. The folders of validation and test
/// must have the classes of a `train/` folder that is next to them.
std::unique_ptr<Dataset> open_dataset(const DatasetOptions& options, Split split);

/// Returns a data set that decodes each image once and keeps its pixels, if all images fit into
/// `byte_budget`. As soon as it is clear that they do not fit, it stops caching and drops all pixels. A data
/// set that is in memory anyway is returned unchanged.
std::unique_ptr<Dataset> cached(std::unique_ptr<Dataset> dataset,
                                std::size_t byte_budget = std::size_t{1} << 30);

/// Returns the data set with these classes, in this order; some of them may have no images. Throws bad_data
/// for a class of the data set that is not among them.
std::unique_ptr<Dataset> with_classes(std::unique_ptr<Dataset> dataset, std::vector<std::string> classes);

}  // namespace faq
