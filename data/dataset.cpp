#include "data/dataset.h"

#include "core/error.h"
#include "data/formats.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

struct Format {
  DatasetKind kind;
  const char* layout;
  bool (*looks_like)(const fs::path&);
  std::unique_ptr<Dataset> (*open)(const DatasetOptions&, Split);
};

/// In the order in which they are tried: any folder with folders in it looks like an image folder.
constexpr Format formats[] = {
    {DatasetKind::idx, "train-images-idx3-ubyte[.gz]", looks_like_idx, open_idx},
    {DatasetKind::cifar, "data_batch_1.bin or train.bin", looks_like_cifar, open_cifar},
    {DatasetKind::image_folder, "train/ and val/ with one folder per class", looks_like_image_folder,
     open_image_folder},
};

const Format& format_of(const DatasetOptions& options) {
  std::string layouts;
  for (const Format& format : formats) {
    if (options.kind == DatasetKind::automatic ? format.looks_like(options.path)
                                               : format.kind == options.kind)
      return format;
    layouts += concat(layouts.empty() ? "" : "; ", format.layout);
  }
  fail(ErrorKind::bad_data, options.path.string(), ": not a data set; expected one of: ", layouts);
}

}  // namespace

std::unique_ptr<Dataset> open_dataset(const DatasetOptions& options, Split split) {
  check(options.channels == 1 || options.channels == 3, ErrorKind::usage,
        "data set: expected 1 or 3 channels, got ", options.channels);
  std::error_code error;
  const fs::file_status status = fs::status(options.path, error);
  check(fs::exists(status), ErrorKind::missing_input, options.path.string(), ": ",
        error ? error.message() : "no such folder");
  check(fs::is_directory(status), ErrorKind::bad_data, options.path.string(),
        ": expected a folder, found a file");
  return format_of(options).open(options, split);
}

}  // namespace faq
