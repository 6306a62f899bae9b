// CIFAR's binary files (https://www.cs.toronto.edu/~kriz/cifar.html): entries of one label (CIFAR-10) or a
// coarse and a fine label (CIFAR-100), then 32 x 32 pixels in three planes.

#include <algorithm>
#include <sstream>

#include "core/error.h"
#include "core/file_error.h"
#include "data/file.h"
#include "data/formats.h"
#include "data/memory_dataset.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

constexpr int side = 32;
constexpr std::size_t plane = side * side;

struct Variant {
  const char* name;
  std::vector<std::string> train_files;
  std::vector<std::string> test_files;
  std::vector<int> label_limits;  ///< one per byte of label; the last label is the class
  const char* names_file;
  const char* unpacked;  ///< the folder in its archive
  struct {
    const char* unpacked;
    const char* names;
    const char* train;
  } python;  ///< the same data in another form, which is not read
};

const std::vector<Variant>& variants() {
  static const std::vector<Variant> table = {
      {"CIFAR-10",
       {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin"},
       {"test_batch.bin"},
       {10},
       "batches.meta.txt",
       "cifar-10-batches-bin",
       {"cifar-10-batches-py", "batches.meta", "data_batch_1"}},
      {"CIFAR-100",
       {"train.bin"},
       {"test.bin"},
       {20, 100},
       "fine_label_names.txt",
       "cifar-100-binary",
       {"cifar-100-python", "meta", "train"}},
  };
  return table;
}

/// A variant, and the folder that has its files.
struct Found {
  const Variant* variant = nullptr;
  fs::path folder;
};

/// The files lie in the folder itself, or in the one that CIFAR's archive unpacks to.
Found recognise(const fs::path& path) {
  for (const Variant& variant : variants())
    for (const fs::path& folder : {path, path / variant.unpacked})
      for (const auto* files : {&variant.train_files, &variant.test_files})
        for (const std::string& file : *files)
          if (file_exists(folder / file)) return {&variant, folder};
  return {};
}

/// A file of CIFAR's archive for Python, which holds pickles; empty if there is none.
fs::path python_file(const fs::path& path) {
  for (const Variant& variant : variants())
    for (const fs::path& folder : {path, path / variant.python.unpacked})
      if (file_exists(folder / variant.python.names) && file_exists(folder / variant.python.train))
        return folder / variant.python.train;
  return {};
}

std::vector<std::string> class_names(const fs::path& file, std::int32_t classes) {
  if (!file_exists(file)) return numbered_classes(classes);
  const std::vector<std::byte> bytes = read_file(file, 1 << 20);
  std::istringstream lines(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  std::vector<std::string> names;
  for (std::string line; std::getline(lines, line);) {
    while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
    if (!line.empty()) names.push_back(line);
  }
  check(names.size() == static_cast<std::size_t>(classes), ErrorKind::bad_data, file.string(), ": expected ",
        classes, " class names, found ", names.size());
  return names;
}

void append_records(const fs::path& file, const Variant& variant, MemoryImages& images) {
  const std::vector<std::byte> bytes = read_file(file, max_dataset_file_bytes);
  const std::size_t labels = variant.label_limits.size(), record = labels + 3 * plane;
  check(!bytes.empty() && bytes.size() % record == 0, ErrorKind::bad_data, file.string(), ": expected ",
        variant.name, " records of ", record, " bytes, found ", bytes.size(), " bytes");
  const std::size_t count = bytes.size() / record;
  std::size_t out = images.pixels.size();
  images.pixels.resize(out + count * 3 * plane);
  for (std::size_t i = 0; i < count; ++i) {
    const std::byte* in = bytes.data() + i * record;
    for (std::size_t k = 0; k < labels; ++k)
      check(std::to_integer<int>(in[k]) < variant.label_limits[k], ErrorKind::bad_data, file.string(),
            ", record ", i, ": expected a label below ", variant.label_limits[k], ", found ",
            std::to_integer<int>(in[k]));
    images.labels.push_back(std::to_integer<std::int32_t>(in[labels - 1]));
    in += labels;
    for (std::size_t p = 0; p < plane; ++p)
      for (std::size_t c = 0; c < 3; ++c)
        images.pixels[out++] = std::to_integer<std::uint8_t>(in[c * plane + p]);
  }
}

}  // namespace

bool looks_like_cifar(const fs::path& folder) {
  return recognise(folder).variant != nullptr || !python_file(folder).empty();  // to be refused by name
}

std::unique_ptr<Dataset> open_cifar(const DatasetOptions& options, Split split) {
  const auto [variant, folder] = recognise(options.path);
  const fs::path python = variant ? fs::path() : python_file(options.path);
  check(python.empty(), ErrorKind::bad_data, python.string(),
        ": CIFAR's files for Python; expected the binary version (cifar-10-binary.tar.gz)");
  check(variant, ErrorKind::bad_data, options.path.string(),
        ": expected CIFAR's binary files (data_batch_1.bin ... and test_batch.bin, or train.bin and "
        "test.bin), found none");
  MemoryImages images{side, side, 3, {}, {}, {}, options.path.string()};
  for (const std::string& file : split == Split::train ? variant->train_files : variant->test_files)
    append_records(folder / file, *variant, images);
  images.class_names = class_names(folder / variant->names_file, variant->label_limits.back());
  return memory_dataset(std::move(images), options.channels);
}

}  // namespace faq
