// Datasets: indexed images with labels.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "data/image.h"

namespace faq {

/// `image(i)` may be called from many threads at once.
class Dataset {
 public:
  virtual ~Dataset() = default;
  virtual std::int64_t size() const = 0;
  virtual Image image(std::int64_t index) const = 0;
  virtual std::int32_t label(std::int64_t index) const = 0;
  /// What to call a sample in a message: a path, or file and index.
  virtual std::string name(std::int64_t index) const = 0;
  virtual const std::vector<std::string>& class_names() const = 0;
  /// Channels of the stored images: 1 or 3.
  virtual int channels() const = 0;
};

enum class DatasetKind { automatic, image_folder, idx, cifar };
enum class Split { train, val };

struct DatasetOptions {
  std::filesystem::path path;
  DatasetKind kind = DatasetKind::automatic;
  int channels = 3;  ///< wanted by the network; grey images are replicated, colour ones turned grey
};

/// Opens one split of a data set. ImageFolder: `train/` and `val/` (or `test/`), one folder per class, sorted by
/// name, or for Split::val a folder of class folders itself when it has neither `train` nor `val`/`test`; IDX:
/// `train-images-idx3-ubyte[.gz]` and `t10k-…`; CIFAR binary: `data_batch_1.bin` … and `test_batch.bin` (CIFAR-10), `train.bin` and
/// `test.bin` (CIFAR-100, fine labels). `automatic` recognises which by looking. Throws missing_input for a folder that does not
/// exist, bad_data for an unrecognised layout, an empty class (named), an empty split or an inconsistent file.
std::unique_ptr<Dataset> open_dataset(const DatasetOptions& options, Split split);

}  // namespace faq
