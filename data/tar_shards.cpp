// Image folders packed into tar files. They are read front to back, so a network file system or a hard disk
// can stream them.

#include <archive.h>
#include <archive_entry.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <utility>

#include "core/error.h"
#include "core/file_error.h"
#include "core/regular_file.h"
#include "core/text.h"
#include "data/decode.h"
#include "data/formats.h"
#include "data/index_text.h"
#include "data/names.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

/// Larger members are refused, because memory is reserved before a member is read. No photograph is so large.
constexpr std::int64_t max_member_bytes = std::int64_t{256} << 20;

/// An open tar file. Any number of threads may read it.
using Shard = RegularFile;

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

  /// Returns the next member, or null at the end, of which check_end() knows more.
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

  /// After the last member. Returns true if the marker of the end is there, which every tar program writes.
  /// Throws bad_data if more follows it: members that nobody would have read.
  bool check_end() {
    std::int64_t at = archive_filter_bytes(archive_.get(), 0);
    // What was skipped counts as read, whether it is there or not.
    check(at <= shard_.bytes(), ErrorKind::bad_data, shard_.path().string(), ": ends within a member");
    const bool is_marked = at >= record && is_zero(at - record, record);
    for (; at < shard_.bytes(); at += record)
      check(is_zero(at, std::min(record, shard_.bytes() - at)), ErrorKind::bad_data, shard_.path().string(),
            ": data follow the end of the archive, at byte ", at,
            ": it is damaged, or several archives in one file: unpack them, and pack them into one");
    return is_marked;
  }

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
  static constexpr std::int64_t record = 512;

  bool is_zero(std::int64_t position, std::int64_t size) {
    std::array<char, record> bytes{};
    const std::span wanted = std::span(bytes).first(static_cast<std::size_t>(size));
    check(shard_.read_at(position, std::as_writable_bytes(wanted)) == wanted.size(), ErrorKind::bad_data,
          shard_.path().string(), ": it has become shorter");
    return std::ranges::all_of(wanted, [](char c) { return c == 0; });
  }

  static la_ssize_t read(archive* a, void* self, const void** buffer) {
    auto& reader = *static_cast<Reader*>(self);
    *buffer = reader.buffer_.data();
    try {
      const auto n = static_cast<la_ssize_t>(
          reader.shard_.read_at(reader.position_, std::as_writable_bytes(std::span(reader.buffer_))));
      reader.position_ += n;
      return n;
    } catch (const Error& error) {  // does not pass through a library in C
      reader.read_error_ = error;
      archive_set_error(a, EIO, "%s", error.what());
      return -1;
    }
  }
  static la_int64_t skip(archive*, void* self, la_int64_t bytes) {
    static_cast<Reader*>(self)->position_ += bytes;
    return bytes;
  }

  void expect(int status, const char* what) const {
    if (status == ARCHIVE_OK) return;
    if (read_error_) throw *read_error_;
    const char* reason = archive_error_string(archive_.get());
    fail(ErrorKind::bad_data, shard_.path().string(), ": ", what, ": ", reason ? reason : "unknown error");
  }

  const Shard& shard_;
  std::int64_t position_;
  std::optional<Error> read_error_;
  std::array<std::byte, 1 << 16> buffer_;
  std::unique_ptr<archive, decltype(&archive_read_free)> archive_;
};

struct Member {
  std::int32_t label;
  std::int64_t position;  ///< of the member's header
  std::int64_t size;
  std::string name;
};

/// What is found in the shards of a split.
struct Index {
  std::vector<std::string> shards;       ///< the tar files, relative to the data set
  std::vector<std::int64_t> shard_ends;  ///< number of the members up to the last one of each shard
  std::vector<std::string> classes;      ///< in order
  std::vector<Member> members;
  std::vector<std::string> notes;  ///< for people

  std::int64_t size() const { return static_cast<std::int64_t>(members.size()); }
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
  const bool has_split = parts.size() > 2 && is_split(parts[0]);
  const std::size_t at = has_split ? 1 : 0;
  check(parts.size() >= at + 2, ErrorKind::bad_data, shard, ": member '", member,
        "' is in no class folder, and has no class in a member KEY.cls");
  return parts[at];
}

/// What the listing of all shards collects.
struct Found {
  std::vector<Member> members;           ///< their labels are open
  std::vector<std::string> class_names;  ///< of each member
  ForeignImages foreign;
  bool has_keys = false;              ///< there are shards as WebDataset writes them
  bool has_folders = false;           ///< there are shards with class folders
  std::int64_t left_out = 0;          ///< members of WebDataset's samples that are neither image nor class
  std::vector<std::string> unmarked;  ///< shards without the marker of their end
};

/// WebDataset's key of a member: its path up to the first dot of the file name.
std::string key_of(const std::string& member) {
  return member.substr(0, member.find('.', member.rfind('/') + 1));  // npos + 1: 0
}

/// The name of the file that unpacking would write: "./a//b" is "a/b".
std::string unpacked(const std::string& member) { return fs::path(member).lexically_normal().string(); }

/// True for KEY.cls, where WebDataset has the class; KEY.coarse.cls is something else of the sample.
bool is_class_of_key(const std::string& member) { return member == key_of(member) + ".cls"; }

/// WebDataset's samples have one image, KEY.jpg or the like; KEY.seg.png is something else of the sample.
/// Takes the others of this shard, which begin at `first`, out.
void keep_images_of_keys(Found& found, std::size_t first, const std::string& shard) {
  std::set<std::string> keys;
  const auto begin = found.members.begin() + static_cast<std::ptrdiff_t>(first);
  const auto is_other = [&](const Member& member) {
    const std::string key = key_of(member.name);
    if (fs::path(member.name).extension().string().size() + key.size() != member.name.size()) return true;
    check(keys.insert(key).second, ErrorKind::bad_data, shard, ": sample '", key,
          "' has several images, expected one of .jpg, .jpeg and .png");
    return false;
  };
  const auto others = std::remove_if(begin, found.members.end(), is_other);
  found.left_out += found.members.end() - others;
  found.members.erase(others, found.members.end());
}

/// The class in a member KEY.cls: a number or a name.
std::string class_in(const std::vector<std::byte>& contents, const std::string& where) {
  std::string text(reinterpret_cast<const char*>(contents.data()), contents.size());
  const auto is_space = [](char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t'; };
  while (!text.empty() && is_space(text.back())) text.pop_back();
  text.erase(text.begin(), std::ranges::find_if_not(text, is_space));
  check(!text.empty() && std::ranges::none_of(text, [](unsigned char c) { return c < ' '; }),
        ErrorKind::bad_data, where, ": expected the number or the name of a class, found ",
        text.empty() ? "nothing" : "control characters");
  return text;
}

/// Appends the images of a shard.
void read_headers(const Shard& shard, Found& found) {
  constexpr std::int64_t longest_class = 256;
  const std::string file = shard.path().string();
  Reader reader(shard, 0);
  std::set<std::string> names;
  std::map<std::string, std::string> classes;  // by key
  const std::size_t first = found.members.size();
  std::int64_t last = -1, others = 0;
  while (archive_entry* entry = reader.next()) {
    const char* path = archive_entry_pathname(entry);
    check(path != nullptr && *path != '\0', ErrorKind::bad_data, file, ": a member without a name");
    const std::string name = path;
    if (archive_entry_filetype(entry) == AE_IFDIR || is_clutter(name)) continue;
    const bool is_class = is_class_of_key(name);
    const NamedAs kind = named_as(name);
    if (kind == NamedAs::other && !is_class) {
      ++others;
      continue;
    }
    check(archive_entry_filetype(entry) == AE_IFREG && !archive_entry_hardlink(entry), ErrorKind::bad_data,
          file, ": member '", name, "' is a link or a device, expected a file");
    check(archive_entry_sparse_count(entry) == 0, ErrorKind::bad_data, file, ": member '", name,
          "' is sparse");
    const std::int64_t size = archive_entry_size(entry), position = reader.header_position();
    const std::int64_t largest = is_class ? longest_class : max_member_bytes;
    check(size > 0 && size <= largest, ErrorKind::bad_data, file, ": member '", name, "' has ", size,
          " bytes, expected 1 to ", largest);
    check(position > last, ErrorKind::bad_data, file, ": member '", name, "' overlaps the one before");
    last = position;
    check(names.insert(unpacked(name)).second, ErrorKind::bad_data, file, ": member '", name,
          "' occurs twice");
    if (is_class) {
      classes[key_of(name)] = class_in(reader.contents(size), concat(file, ": member '", name, "'"));
      continue;
    }
    if (kind == NamedAs::foreign) {
      const auto head = static_cast<std::int64_t>(ForeignImages::head_bytes);
      if (!found.foreign.is_usable(file + ":" + name, reader.contents(std::min(size, head)))) continue;
    }
    found.members.push_back({0, position, size, name});
  }
  if (!reader.check_end()) found.unmarked.push_back(file);
  (classes.empty() ? found.has_folders : found.has_keys) |= found.members.size() > first;
  if (!classes.empty()) {
    found.left_out += others;
    keep_images_of_keys(found, first, file);
  }
  for (std::size_t i = first; i < found.members.size(); ++i) {
    const std::string& name = found.members[i].name;
    if (classes.empty()) {
      found.class_names.push_back(class_of(name, file));
      continue;
    }
    const auto known = classes.find(key_of(name));
    check(known != classes.end(), ErrorKind::bad_data, file, ": member '", name,
          "' has no class: expected a member '", key_of(name), ".cls'");
    found.class_names.push_back(known->second);
  }
}

/// The number of a class; nothing for a name.
std::optional<std::int32_t> number_of(const std::string& name) {
  constexpr std::int32_t most_classes = 1 << 20;
  std::int32_t number = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc() || stop != end || number < 0 || number >= most_classes) return {};
  return number;
}

/// Numbers of classes, as WebDataset has them, are the labels themselves; names are sorted.
void set_classes(Index& index, const Found& found, const std::string& where, const DatasetOptions& options) {
  const bool allow_empty = options.allow_empty_classes;
  std::set<std::string> present(found.class_names.begin(), found.class_names.end());
  const bool numbers = found.has_keys && std::ranges::all_of(present, [](const std::string& name) {
                         return number_of(name).has_value();
                       });
  if (numbers) {
    std::int32_t largest = 0;
    std::set<std::int32_t> distinct;  // "0" and "00" are one
    for (const std::string& name : present) distinct.insert(*number_of(name));
    largest = *distinct.rbegin();
    // The labels of a data set are its classes; those without images are none of a file that is believed.
    const auto classes = std::int64_t{largest} + 1, without = classes - std::ssize(distinct);
    check(allow_empty || without == 0, ErrorKind::bad_data, where, ": ", without, " of the classes 0 to ",
          largest, " have no images; `allow_empty_classes` takes such classes");
    constexpr std::int64_t most_without = 10000;
    check(without <= most_without, ErrorKind::bad_data, where, ": ", without, " of the classes 0 to ",
          largest, " have no images, at most ", most_without, " may have none: is a number wrong?");
    for (std::int32_t i = 0; i <= largest; ++i) index.classes.push_back(std::to_string(i));
  } else {
    index.classes.assign(present.begin(), present.end());
    sort_classes(index.classes, options.class_order);
  }
  std::map<std::string, std::int32_t> labels;
  for (std::size_t i = 0; i < index.classes.size(); ++i)
    labels.emplace(index.classes[i], static_cast<std::int32_t>(i));
  for (std::size_t i = 0; i < index.members.size(); ++i) {
    const std::string& name = found.class_names[i];
    index.members[i].label = numbers ? *number_of(name) : labels.at(name);
  }
}

/// True for ds/CLASS/FILE, where "ds" would be the only class.
bool are_in_one_folder(const Found& found) {
  const auto depth = [](const Member& member) {
    const fs::path path = fs::path(member.name).lexically_normal();
    return std::distance(path.begin(), path.end()) - (is_split(path.begin()->string()) ? 1 : 0);
  };
  return std::ranges::all_of(found.class_names,
                             [&](const std::string& name) { return name == found.class_names.front(); }) &&
         std::ranges::all_of(found.members, [&](const Member& member) { return depth(member) > 2; });
}

Index index_of(const DatasetOptions& options, const std::vector<fs::path>& files) {
  Index index;
  Found found;
  for (const fs::path& file : files) {
    read_headers(Shard(file), found);
    index.shards.push_back(file.lexically_relative(options.path).string());
    index.shard_ends.push_back(static_cast<std::int64_t>(found.members.size()));
  }
  const std::string where = files.front().parent_path().string();
  const std::string foreign = found.foreign.note(where, options.skip_bad);
  check(!found.members.empty(), ErrorKind::bad_data, where, ": no images (.jpg, .jpeg or .png) in ",
        files.size(), " tar files",
        found.has_keys ? ": samples have theirs as KEY.jpg, KEY.jpeg or KEY.png" : "");
  check(!found.has_keys || !found.has_folders, ErrorKind::bad_data, where,
        ": some shards have KEY.cls members and others have class folders, expected one kind");
  check(found.has_keys || !are_in_one_folder(found), ErrorKind::bad_data, where,
        ": all images are in the folder '", found.class_names.front(), "' of ",
        files.front().filename().string(), ", which cannot be their class: pack what is in it");
  index.members = std::move(found.members);
  set_classes(index, found, where, options);
  const std::string left_out =
      found.left_out > 0
          ? concat(where, ": ", found.left_out, " members that are neither image nor .cls are not used")
          : "";
  const std::string unmarked =
      found.unmarked.empty()
          ? ""
          : concat("warning: ", join_first(found.unmarked, ", ", 200),
                   ": no end-of-archive marker: if the file was cut short, what followed is not used");
  for (const std::string& note : {foreign, note_on_order(index.classes), left_out, unmarked})
    if (!note.empty()) index.notes.push_back(note);
  return index;
}

std::string to_text(const Index& index) {
  std::vector<std::int64_t> labels, positions, sizes;
  std::vector<std::string> names;
  for (const Member& m : index.members) {
    labels.push_back(m.label);
    positions.push_back(m.position);
    sizes.push_back(m.size);
    names.push_back(m.name);
  }
  IndexWriter writer;
  writer.add(index.shards);
  writer.add(index.shard_ends);
  writer.add(index.classes);
  writer.add(labels);
  writer.add(positions);
  writer.add(sizes);
  writer.add(names);
  writer.add(index.notes);
  return writer.text();
}

Index index_in(const std::string& text, const std::string& path) {
  IndexReader reader(text, path);
  Index index{.shards = reader.names(),
              .shard_ends = reader.numbers(),
              .classes = reader.names(),
              .members = {},
              .notes = {}};
  const std::vector<std::int64_t> labels = reader.numbers(), positions = reader.numbers(),
                                  sizes = reader.numbers();
  std::vector<std::string> names = reader.names();
  index.notes = reader.names();
  reader.expect_end();
  const auto expect = [&](bool condition, const auto&... parts) {
    check(condition, ErrorKind::bad_data, path, ": the index of the tar shards ", parts...);
  };
  expect(!names.empty() && labels.size() == names.size() && positions.size() == names.size() &&
             sizes.size() == names.size(),
         "has ", names.size(), " names, ", labels.size(), " labels, ", positions.size(), " positions and ",
         sizes.size(), " sizes, expected as many of each, and one at least");
  expect(index.shards.size() == index.shard_ends.size(), "has ", index.shards.size(), " shards, and where ",
         index.shard_ends.size(), " end");
  for (const std::string& shard : index.shards)
    expect(!shard.empty() && stays_inside(shard), "names '", shard, "', which is outside of the data set");
  std::int64_t begin = 0;
  for (const std::int64_t end : index.shard_ends) {
    expect(end >= begin && end <= static_cast<std::int64_t>(names.size()), "has a shard of the members ",
           begin, " to ", end - 1, " of ", names.size());
    begin = end;
  }
  expect(begin == static_cast<std::int64_t>(names.size()), "has ", names.size(), " members, in shards ",
         begin);
  for (std::size_t i = 0; i < names.size(); ++i) {
    expect(labels[i] < static_cast<std::int64_t>(index.classes.size()), "has a member of class ", labels[i],
           " of ", index.classes.size());
    expect(sizes[i] > 0 && sizes[i] <= max_member_bytes, "has a member of ", sizes[i],
           " bytes, expected 1 to ", max_member_bytes);
    index.members.push_back(
        {static_cast<std::int32_t>(labels[i]), positions[i], sizes[i], std::move(names[i])});
  }
  return index;
}

class TarShards final : public Dataset {
 public:
  TarShards(const DatasetOptions& options, Index index)
      : channels_(options.channels), shuffle_buffer_(options.shuffle_buffer), index_(std::move(index)) {
    for (const std::string& file : index_.shards)
      shards_.push_back(std::make_unique<Shard>(options.path / file));
    for (std::int64_t i = 0; i < size(); ++i) {
      const Member& m = member(i);
      check(m.position < shard_of(i).bytes() - m.size, ErrorKind::bad_data, shard_of(i).path().string(),
            ": ends within a member, or has changed since it was indexed: it has ", shard_of(i).bytes(),
            " bytes, expected ", m.size, " of '", m.name, "' after byte ", m.position);
    }
  }

  std::int64_t size() const override { return index_.size(); }
  std::int32_t label(std::int64_t index) const override { return member(index).label; }
  std::string name(std::int64_t index) const override {
    const Member& m = member(index);
    return shard_of(index).path().string() + ":" + m.name;
  }
  std::string relative_name(std::int64_t index) const override {
    return shard_of(index).path().filename().string() + ":" + member(index).name;
  }
  std::vector<std::string> notes() const override { return index_.notes; }
  const std::vector<std::string>& class_names() const override { return index_.classes; }
  int channels() const override { return channels_; }

  Image image(std::int64_t index) const override {
    const Member& m = member(index);
    Reader reader(shard_of(index), m.position);
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
  const Member& member(std::int64_t index) const {
    check(index >= 0 && index < size(), "tar shards: no image ", index, " among ", size());
    return index_.members[static_cast<std::size_t>(index)];
  }
  const Shard& shard_of(std::int64_t index) const {
    const auto shard = std::ranges::upper_bound(index_.shard_ends, index) - index_.shard_ends.begin();
    return *shards_[static_cast<std::size_t>(shard)];
  }

  int channels_;
  std::int64_t shuffle_buffer_;
  Index index_;
  std::vector<std::unique_ptr<Shard>> shards_;
};

std::vector<fs::path> tar_files(const fs::path& folder, const std::string& prefix) {
  std::vector<fs::path> files;
  if (!folder_exists(folder)) return files;
  for (const fs::directory_entry& entry : entries_of(folder)) {
    const fs::path& file = entry.path();
    if (file.extension() == ".tar" && file.filename().string().starts_with(prefix) &&
        file_type_of(file) == fs::file_type::regular)
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
    if (const auto compressed = compressed_shards(path); files.empty() && !compressed.empty())
      fail(ErrorKind::bad_data, compressed.front().string(),
           ": compressed; shards are read as .tar: unpack it to one");
    check(!files.empty(), ErrorKind::missing_input, (path / name).string(), ": no ", name, "/*.tar and no ",
          name, "*.tar");
    return to_text(index_of(options, files));
  });
  return std::make_unique<TarShards>(options, index_in(text, path.string()));
}

}  // namespace faq
