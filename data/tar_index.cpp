#include "data/tar_index.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "core/error.h"
#include "core/text.h"
#include "data/index_text.h"
#include "data/names.h"
#include "data/tar_reader.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

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
  std::vector<TarMember> members;        ///< their labels are open
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
  const auto is_other = [&](const TarMember& member) {
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
  TarReader reader(shard, 0);
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

/// Numbers of classes, as WebDataset has them, are the labels themselves; names are sorted.
void set_classes(TarIndex& index, const Found& found, const std::string& where,
                 const DatasetOptions& options) {
  const bool allow_empty = options.allow_empty_classes;
  std::set<std::string> present(found.class_names.begin(), found.class_names.end());
  const bool numbers = found.has_keys && std::ranges::all_of(present, [](const std::string& name) {
                         return class_number(name).has_value();
                       });
  if (numbers) {
    std::int32_t largest = 0;
    std::set<std::int32_t> distinct;  // "0" and "00" are one
    for (const std::string& name : present) distinct.insert(*class_number(name));
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
    index.members[i].label = numbers ? *class_number(name) : labels.at(name);
  }
}

/// True for ds/CLASS/FILE, where "ds" would be the only class.
bool are_in_one_folder(const Found& found) {
  const auto depth = [](const TarMember& member) {
    const fs::path path = fs::path(member.name).lexically_normal();
    return std::distance(path.begin(), path.end()) - (is_split(path.begin()->string()) ? 1 : 0);
  };
  return std::ranges::all_of(found.class_names,
                             [&](const std::string& name) { return name == found.class_names.front(); }) &&
         std::ranges::all_of(found.members, [&](const TarMember& member) { return depth(member) > 2; });
}

}  // namespace

TarIndex index_of(const DatasetOptions& options, const std::vector<fs::path>& files) {
  TarIndex index;
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
std::string to_text(const TarIndex& index) {
  std::vector<std::int64_t> labels, positions, sizes;
  std::vector<std::string> names;
  for (const TarMember& m : index.members) {
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

TarIndex index_in(const std::string& text, const std::string& path) {
  IndexReader reader(text, path);
  TarIndex index{.shards = reader.names(),
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

}  // namespace faq
