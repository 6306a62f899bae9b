#include "data/dataset.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <utility>

#include "core/error.h"
#include "core/file_error.h"
#include "core/rng.h"
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

/// The formats in the order in which they are tried. Image folders are last: any folder that contains folders
/// looks like one.
constexpr Format formats[] = {
    {DatasetKind::idx, "train-images-idx3-ubyte[.gz]", looks_like_idx, open_idx},
    {DatasetKind::cifar, "data_batch_1.bin or train.bin", looks_like_cifar, open_cifar},
    {DatasetKind::tar, "train/*.tar or train*.tar", looks_like_tar_shards, open_tar_shards},
    {DatasetKind::image_folder, "train/ and val/ with one folder per class", looks_like_image_folder,
     open_image_folder},
};

const Format& find_format(const DatasetOptions& options) {
  if (!options.val_labels.empty()) {
    constexpr const Format& folders = formats[std::size(formats) - 1];
    check(options.kind == DatasetKind::automatic || options.kind == folders.kind, ErrorKind::usage,
          "`val_labels` has no effect: it is for image folders");
    return folders;
  }
  std::string layouts;
  for (const Format& format : formats) {
    if (options.kind == DatasetKind::automatic ? format.looks_like(options.path)
                                               : format.kind == options.kind)
      return format;
    layouts += concat(layouts.empty() ? "" : "; ", format.layout);
  }
  fail(ErrorKind::bad_data, options.path.string(), ": not a data set; expected one of: ", layouts);
}

const Format& format_of(const DatasetOptions& options) {
  const std::string layout = options.once([&] { return std::string(find_format(options).layout); });
  const Format* format = std::ranges::find_if(formats, [&](const Format& f) { return f.layout == layout; });
  check(format != std::end(formats), ErrorKind::bad_data, options.path.string(),
        ": expected a layout of data sets, got '", layout, "'");
  return *format;
}

}  // namespace

std::vector<std::int64_t> shuffled_order(std::int64_t size, std::uint64_t seed, std::int64_t epoch) {
  check(size >= 0 && size <= UINT32_MAX && epoch >= 0, "shuffle: ", size, " samples, epoch ", epoch);
  std::vector<std::int64_t> order(static_cast<std::size_t>(size));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  Random random(seed, RandomStream::shuffle, static_cast<std::uint64_t>(epoch));
  for (std::size_t i = order.size(); i > 1; --i)
    std::swap(order[i - 1], order[random.below(static_cast<std::uint32_t>(i))]);
  return order;
}

std::vector<std::int64_t> buffered_order(std::span<const std::int64_t> ends, std::int64_t buffer,
                                         std::uint64_t seed, std::int64_t epoch) {
  check(buffer > 0, "shuffle: a buffer of ", buffer);
  // The order of the shards uses other draws, so it does not depend on the size of the buffer.
  Random random(seed, RandomStream::shuffle, static_cast<std::uint64_t>(epoch), 1);
  std::vector<std::int64_t> order, held;
  const auto release = [&] {
    const std::size_t place = random.below(static_cast<std::uint32_t>(held.size()));
    order.push_back(held[place]);
    held[place] = held.back();
    held.pop_back();
  };
  for (const std::int64_t shard : shuffled_order(static_cast<std::int64_t>(ends.size()), seed, epoch)) {
    const auto s = static_cast<std::size_t>(shard);
    for (std::int64_t sample = s == 0 ? 0 : ends[s - 1]; sample < ends[s]; ++sample) {
      if (static_cast<std::int64_t>(held.size()) == buffer) release();
      held.push_back(sample);
    }
  }
  while (!held.empty()) release();
  return order;
}

std::unique_ptr<Dataset> open_dataset(const DatasetOptions& options, Split split) {
  check(options.channels == 1 || options.channels == 3, ErrorKind::usage,
        "data set: expected 1 or 3 channels, got ", options.channels);
  std::error_code error;
  const fs::file_status status = fs::status(options.path, error);
  check(fs::exists(status), error ? kind_of_file_error(error.value()) : ErrorKind::missing_input,
        options.path.string(), ": ", error ? error.message() : "no such folder");
  check(fs::is_directory(status), ErrorKind::bad_data, options.path.string(),
        ": expected a folder, found a file");
  return format_of(options).open(options, split);
}

}  // namespace faq
