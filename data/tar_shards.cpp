// Image folders packed into tar files. They are read front to back, so a network file system or a hard disk
// can stream them.

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "data/decode.h"
#include "data/file.h"
#include "data/formats.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

/// Larger members are refused, because memory is reserved before a member is read. No photograph is so large.
constexpr std::int64_t max_member_bytes = std::int64_t{256} << 20;

/// An open tar file. Any number of threads may read it.
class Shard {
 public:
  explicit Shard(fs::path path)
      : path_(std::move(path)), descriptor_(::open(path_.c_str(), O_RDONLY | O_CLOEXEC)) {
    const int error = errno;
    check(descriptor_ >= 0, kind_of_open_error(error), path_.string(),
          ": cannot be opened: ", std::strerror(error));
  }
  ~Shard() { ::close(descriptor_); }
  Shard(const Shard&) = delete;
  Shard& operator=(const Shard&) = delete;

  const fs::path& path() const { return path_; }
  int descriptor() const { return descriptor_; }

 private:
  fs::path path_;
  int descriptor_;
};

/// Reads one shard with libarchive, from a given position on.
class Reader {
 public:
  Reader(const Shard& shard, std::int64_t position)
      : shard_(shard), position_(position), archive_(archive_read_new(), &archive_read_free) {
    check(archive_ != nullptr, ErrorKind::out_of_memory, shard.path().string(), ": no memory");
    archive_read_support_format_tar(archive_.get());
    archive_read_set_read_callback(archive_.get(), &Reader::read);
    archive_read_set_skip_callback(archive_.get(), &Reader::skip);
    archive_read_set_callback_data(archive_.get(), this);
    expect(archive_read_open1(archive_.get()), "is not a tar file");
  }

  /// Returns the next member, or null at the end.
  archive_entry* next() {
    archive_entry* entry = nullptr;
    const int status = archive_read_next_header(archive_.get(), &entry);
    if (status == ARCHIVE_EOF) return nullptr;
    // After a warning the entry is usable. Usually its name is not valid in the program's locale ("C"), and
    // we get its bytes.
    expect(status == ARCHIVE_WARN ? ARCHIVE_OK : status, "has a bad header");
    return entry;
  }
  /// The position of the header of the last member.
  std::int64_t header_position() const { return archive_read_header_position(archive_.get()); }

  std::vector<std::byte> contents(std::int64_t size) {
    std::vector<std::byte> bytes(static_cast<std::size_t>(size));
    std::size_t filled = 0;
    while (filled < bytes.size()) {
      const auto n = archive_read_data(archive_.get(), bytes.data() + filled, bytes.size() - filled);
      expect(n < 0 ? static_cast<int>(n) : ARCHIVE_OK, "cannot be read");
      check(n > 0, ErrorKind::bad_data, shard_.path().string(), ": ends within a member");
      filled += static_cast<std::size_t>(n);
    }
    return bytes;
  }

 private:
  static la_ssize_t read(archive* a, void* self, const void** buffer) {
    auto& reader = *static_cast<Reader*>(self);
    const auto n =
        ::pread(reader.shard_.descriptor(), reader.buffer_.data(), reader.buffer_.size(), reader.position_);
    if (n < 0) {
      reader.read_failed_ = true;
      archive_set_error(a, errno, "%s", std::strerror(errno));
    }
    if (n > 0) reader.position_ += n;
    *buffer = reader.buffer_.data();
    return n;
  }
  static la_int64_t skip(archive*, void* self, la_int64_t bytes) {
    static_cast<Reader*>(self)->position_ += bytes;
    return bytes;
  }

  void expect(int status, const char* what) const {
    if (status == ARCHIVE_OK) return;
    const char* reason = archive_error_string(archive_.get());
    fail(read_failed_ ? ErrorKind::io : ErrorKind::bad_data, shard_.path().string(), ": ",
         read_failed_ ? "cannot be read" : what, ": ", reason ? reason : "unknown error");
  }

  const Shard& shard_;
  std::int64_t position_;
  bool read_failed_ = false;
  std::array<std::byte, 1 << 16> buffer_;
  std::unique_ptr<archive, decltype(&archive_read_free)> archive_;
};

struct Member {
  std::int32_t shard;
  std::int32_t label;
  std::int64_t position;  ///< of the member's header
  std::int64_t size;
  std::string name;
};

/// Returns the class of "./train/CLASS/…/FILE" or "CLASS/…/FILE".
std::string class_of(const std::string& member, const std::string& shard) {
  std::vector<std::string> parts;
  for (const fs::path& part : fs::path(member)) {
    const std::string text = part.string();
    check(text != ".." && text != "/", ErrorKind::bad_data, shard, ": member '", member,
          "' points out of the archive");
    if (text != "." && !text.empty()) parts.push_back(text);
  }
  const bool has_split = parts.size() > 2 && (parts[0] == "train" || parts[0] == "val" || parts[0] == "test");
  const std::size_t at = has_split ? 1 : 0;
  check(parts.size() >= at + 2, ErrorKind::bad_data, shard, ": member '", member, "' is in no class folder");
  return parts[at];
}

class TarShards final : public Dataset {
 public:
  TarShards(const std::vector<fs::path>& files, const DatasetOptions& options)
      : channels_(options.channels), shuffle_buffer_(options.shuffle_buffer) {
    std::map<std::string, std::int32_t> classes;
    std::vector<std::string> class_of_member;
    for (const fs::path& file : files) {
      shards_.push_back(std::make_unique<Shard>(file));
      index(*shards_.back(), class_of_member);
    }
    for (const std::string& name : class_of_member) classes.emplace(name, 0);
    for (auto& [name, label] : classes) {
      label = static_cast<std::int32_t>(class_names_.size());
      class_names_.push_back(name);
    }
    for (std::size_t i = 0; i < members_.size(); ++i) members_[i].label = classes[class_of_member[i]];
    check(!members_.empty(), ErrorKind::bad_data, files.front().parent_path().string(),
          ": no images (.jpg, .jpeg or .png) in ", files.size(), " tar files");
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(members_.size()); }
  std::int32_t label(std::int64_t index) const override { return member(index).label; }
  std::string name(std::int64_t index) const override {
    const Member& m = member(index);
    return shards_[static_cast<std::size_t>(m.shard)]->path().string() + ":" + m.name;
  }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  int channels() const override { return channels_; }

  Image image(std::int64_t index) const override {
    const Member& m = member(index);
    Reader reader(*shards_[static_cast<std::size_t>(m.shard)], m.position);
    archive_entry* entry = reader.next();
    check(entry && archive_entry_size(entry) == m.size, ErrorKind::bad_data, name(index),
          ": the archive has changed since it was opened");
    return decode_image(reader.contents(m.size), channels_, name(index));
  }

  std::vector<std::int64_t> shuffled(std::uint64_t seed, std::int64_t epoch) const override {
    std::vector<std::int64_t> ends;
    for (std::size_t i = 0; i < members_.size(); ++i) {
      if (i + 1 == members_.size() || members_[i + 1].shard != members_[i].shard)
        ends.push_back(static_cast<std::int64_t>(i) + 1);
    }
    return buffered_order(ends, shuffle_buffer_, seed, epoch);
  }

 private:
  const Member& member(std::int64_t index) const {
    check(index >= 0 && index < size(), "tar shards: no image ", index, " among ", size());
    return members_[static_cast<std::size_t>(index)];
  }

  void index(const Shard& shard, std::vector<std::string>& class_of_member) {
    const std::string file = shard.path().string();
    Reader reader(shard, 0);
    std::set<std::string> names;
    std::int64_t last = -1;
    while (archive_entry* entry = reader.next()) {
      const char* path = archive_entry_pathname(entry);
      check(path != nullptr && *path != '\0', ErrorKind::bad_data, file, ": a member without a name");
      const std::string name = path;
      if (archive_entry_filetype(entry) == AE_IFDIR) continue;
      if (!named_like_an_image(name)) continue;
      const std::string label = class_of(name, file);
      check(archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry), ErrorKind::bad_data,
            file, ": member '", name, "' is a link or a device, expected a file");
      check(archive_entry_sparse_count(entry) == 0, ErrorKind::bad_data, file, ": member '", name,
            "' is sparse");
      const std::int64_t size = archive_entry_size(entry), position = reader.header_position();
      check(size > 0 && size <= max_member_bytes, ErrorKind::bad_data, file, ": member '", name, "' has ",
            size, " bytes, expected 1 to ", max_member_bytes);
      check(position > last, ErrorKind::bad_data, file, ": member '", name, "' overlaps the one before");
      last = position;
      check(names.insert(name).second, ErrorKind::bad_data, file, ": member '", name, "' occurs twice");
      members_.push_back({static_cast<std::int32_t>(shards_.size() - 1), 0, position, size, name});
      class_of_member.push_back(label);
    }
    const auto bytes = static_cast<std::int64_t>(fs::file_size(shard.path()));
    check(members_.empty() || members_.back().shard + 1 != static_cast<std::int32_t>(shards_.size()) ||
              members_.back().position + members_.back().size < bytes,
          ErrorKind::bad_data, file, ": ends within a member");
  }

  int channels_;
  std::int64_t shuffle_buffer_;
  std::vector<std::unique_ptr<Shard>> shards_;
  std::vector<Member> members_;
  std::vector<std::string> class_names_;
};

std::vector<fs::path> tar_files(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> files;
  std::error_code error;
  for (fs::directory_iterator it(folder, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    const std::string name = it->path().filename().string();
    if (it->path().extension() == ".tar" && name.starts_with(prefix) && it->is_regular_file(error))
      files.push_back(it->path());
  }
  std::ranges::sort(files);
  return files;
}

bool has_folders(const fs::path& folder) {
  std::error_code ignored;
  for (auto entry = fs::directory_iterator(folder, ignored); entry != fs::directory_iterator();
       entry.increment(ignored))
    if (entry->is_directory(ignored)) return true;
  return false;
}

/// Returns the shards of the first of these splits that has any: SPLIT/*.tar or SPLIT*.tar.
std::vector<fs::path> shards_of(const fs::path& folder, std::initializer_list<const char*> splits) {
  for (const char* split : splits) {
    for (auto files : {tar_files(folder / split, ""), tar_files(folder, split)}) {
      if (!files.empty()) return files;
    }
  }
  return {};
}

}  // namespace

bool looks_like_tar_shards(const fs::path& folder) {
  const auto files = shards_of(folder, {"train", "val", "test"});
  if (files.empty()) return false;
  // An archive that lies beside the folders it was unpacked to is not the data set.
  const bool beside = files.front().parent_path() == folder;
  return !beside ||
         !(has_folders(folder / "train") || has_folders(folder / "val") || has_folders(folder / "test"));
}

std::unique_ptr<Dataset> open_tar_shards(const DatasetOptions& options, Split split) {
  const auto files =
      split == Split::train ? shards_of(options.path, {"train"}) : shards_of(options.path, {"val", "test"});
  const char* name = split == Split::train ? "train" : "val";
  check(!files.empty(), ErrorKind::missing_input, (options.path / name).string(), ": no ", name,
        "/*.tar and no ", name, "*.tar");
  return std::make_unique<TarShards>(files, options);
}

}  // namespace faq
