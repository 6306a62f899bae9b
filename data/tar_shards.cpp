// Image folders packed into tar files. They are read front to back, so a network file system or a hard disk
// can stream them.

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

#include "core/error.h"
#include "core/file_error.h"
#include "data/decode.h"
#include "data/formats.h"
#include "data/names.h"
#include "data/tar_index.h"
#include "data/tar_reader.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

class TarShards final : public Dataset {
 public:
  TarShards(const DatasetOptions& options, TarIndex index)
      : channels_(options.channels),
        shuffle_buffer_(options.shuffle_buffer),
        index_(std::move(index)),
        names_(in_utf8(index_.classes)) {
    for (const std::string& file : index_.shards)
      shards_.push_back(std::make_unique<Shard>(options.path / file));
    for (std::int64_t i = 0; i < size(); ++i) {
      const TarMember& m = member(i);
      check(m.position < shard_of(i).bytes() - m.size, ErrorKind::bad_data, shard_of(i).path().string(),
            ": ends within a member, or has changed since it was indexed: it has ", shard_of(i).bytes(),
            " bytes, expected ", m.size, " of '", m.name, "' after byte ", m.position);
    }
  }

  std::int64_t size() const override { return index_.size(); }
  std::int32_t label(std::int64_t index) const override { return member(index).label; }
  std::string name(std::int64_t index) const override {
    const TarMember& m = member(index);
    return shard_of(index).path().string() + ":" + m.name;
  }
  std::string relative_name(std::int64_t index) const override {
    return shard_of(index).path().filename().string() + ":" + member(index).name;
  }
  std::vector<std::string> notes() const override { return index_.notes; }
  const std::vector<std::string>& class_names() const override { return names_; }
  int channels() const override { return channels_; }

  Image image(std::int64_t index) const override {
    const TarMember& m = member(index);
    TarReader reader(shard_of(index), m.position);
    archive_entry* entry = reader.next();
    check(entry && archive_entry_size(entry) == m.size, ErrorKind::bad_data, name(index),
          ": the archive has changed since it was opened");
    return decode_image(reader.contents(m.size), channels_, name(index));
  }

  std::vector<std::int64_t> shuffled(std::uint64_t seed, std::int64_t epoch) const override {
    std::vector<std::int64_t> ends;  // of the shards that have images
    for (const std::int64_t end : index_.shard_ends)
      if (end > (ends.empty() ? 0 : ends.back())) ends.push_back(end);
    return buffered_order(ends, shuffle_buffer_, seed, epoch);
  }

 private:
  const TarMember& member(std::int64_t index) const {
    check(index >= 0 && index < size(), "tar shards: no image ", index, " among ", size());
    return index_.members[static_cast<std::size_t>(index)];
  }
  const Shard& shard_of(std::int64_t index) const {
    const auto shard = std::ranges::upper_bound(index_.shard_ends, index) - index_.shard_ends.begin();
    return *shards_[static_cast<std::size_t>(shard)];
  }

  int channels_;
  std::int64_t shuffle_buffer_;
  TarIndex index_;
  std::vector<std::string> names_;  ///< of classes, as people and files see them
  std::vector<std::unique_ptr<Shard>> shards_;
};

std::vector<fs::path> tar_files(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> files;
  if (!folder_exists(folder)) return files;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    const fs::path& file = entry.path();
    if (in_small_letters(file.extension().string()) == ".tar" &&
        file.filename().string().starts_with(prefix) && file_type_of(file) == fs::file_type::regular)
      files.push_back(file);
  }
  return files;
}

bool has_folders(const fs::path& folder) {
  if (!folder_exists(folder)) return false;
  const auto is_folder = [](const fs::directory_entry& entry) { return folder_exists(entry.path()); };
  return std::ranges::any_of(entries_of(folder), is_folder);
}

/// A shard that is compressed, of the first name of a split that has any.
std::vector<fs::path> compressed_shards(const fs::path& folder) {
  constexpr std::array extensions{".tar.gz", ".tgz", ".tar.xz", ".tar.zst", ".tar.bz2"};
  for (const Split which : {Split::train, Split::val}) {
    for (const char* split : names_of(which)) {
      for (const fs::path& place : {folder / split, folder}) {
        if (!folder_exists(place)) continue;
        for (const fs::directory_entry& entry : entries_of(place)) {
          const std::string name = in_small_letters(entry.path().filename().string());
          const auto ends = [&](const char* extension) { return name.ends_with(extension); };
          if ((place != folder || name.starts_with(split)) && std::ranges::any_of(extensions, ends))
            return {entry.path()};
        }
      }
    }
  }
  return {};
}

/// Returns the shards of the first name of the split that has any: NAME/*.tar or NAME*.tar.
std::vector<fs::path> shards_of(const fs::path& folder, Split which) {
  for (const char* split : names_of(which)) {
    for (auto files : {tar_files(folder / split, ""), tar_files(folder, split)}) {
      if (!files.empty()) return files;
    }
  }
  return {};
}

}  // namespace

bool looks_like_tar_shards(const fs::path& folder) {
  auto files = shards_of(folder, Split::train);
  if (files.empty()) files = shards_of(folder, Split::val);
  if (files.empty()) files = compressed_shards(folder);  // to be refused by name
  if (files.empty()) return false;
  // An archive that lies beside the folders it was unpacked to is not the data set.
  const bool beside = files.front().parent_path() == folder;
  const auto is_unpacked = [&](Split split) {
    return std::ranges::any_of(names_of(split), [&](const char* name) { return has_folders(folder / name); });
  };
  return !beside || !(is_unpacked(Split::train) || is_unpacked(Split::val));
}

std::unique_ptr<Dataset> open_tar_shards(const DatasetOptions& options, Split split) {
  const fs::path& path = options.path;
  const std::string text = options.once([&] {
    const auto files = shards_of(path, split);
    const char* name = names_of(split).front();
    // Beside folders an archive may be what they were unpacked from; among shards it is one of them.
    const auto compressed = compressed_shards(path);
    const bool is_among = !files.empty() && !compressed.empty() && compressed.front().parent_path() != path &&
                          compressed.front().parent_path() == files.front().parent_path();
    if (!compressed.empty() && (files.empty() || is_among))
      fail(ErrorKind::bad_data, compressed.front().string(),
           ": compressed; shards are read as .tar: unpack it to one");
    check(!files.empty(), ErrorKind::missing_input, (path / name).string(), ": no ", name, "/*.tar and no ",
          name, "*.tar");
    return to_text(index_of(options, files));
  });
  return std::make_unique<TarShards>(options, index_in(text, path.string()));
}

}  // namespace faq
