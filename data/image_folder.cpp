// Image folders with one folder per class, as torchvision's ImageFolder reads them.

#include <algorithm>
#include <fstream>
#include <functional>
#include <utility>

#include "core/error.h"
#include "core/file_error.h"
#include "data/decode.h"
#include "data/formats.h"
#include "data/index_text.h"
#include "data/names.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

/// The entries of a folder without clutter, sorted by name.
std::vector<fs::directory_entry> entries(const fs::path& folder) {
  std::vector<fs::directory_entry> found = entries_of(folder);
  std::erase_if(found, [](const fs::directory_entry& e) { return is_clutter(e.path().filename().native()); });
  return found;
}

std::vector<std::string> classes_of(const fs::path& folder, ClassOrder order) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries(folder))
    if (folder_exists(entry.path())) names.push_back(entry.path().filename().string());
  sort_classes(names, order);
  return names;
}

/// The first bytes of a file; fewer for what cannot be read.
std::vector<std::byte> head_of(const fs::path& file) {
  std::vector<std::byte> head(ForeignImages::head_bytes);
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(head.data()), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(in.gcount()));
  return head;
}

/// Lists the files below `folder` that are named like images, relative to it. It lists anything with such a
/// name, so that a wrong file is an error and not skipped.
void list_images(const fs::path& folder, const std::string& relative, int depth,
                 std::vector<std::string>& files, ForeignImages& foreign) {
  check(depth < 8, ErrorKind::bad_data, folder.string(), ": folders nested too deeply, or in a circle");
  for (const fs::directory_entry& entry : entries(folder)) {
    const std::string file = entry.path().filename().string(), name = relative + file;
    const NamedAs kind = named_as(file);
    if (kind == NamedAs::image)
      files.push_back(name);
    else if (folder_exists(entry.path()))
      list_images(entry.path(), name + "/", depth + 1, files, foreign);
    else if (kind == NamedAs::foreign && file_type_of(entry.path()) == fs::file_type::regular &&
             foreign.is_usable(entry.path().string(), head_of(entry.path())))
      files.push_back(name);
  }
}

/// What is found in the folder of a split.
struct Listing {
  std::string split;                    ///< name of the folder; empty: the data set itself
  std::vector<std::string> classes;     ///< names of their folders
  std::vector<std::string> files;       ///< relative to the folder of their class
  std::vector<std::int64_t> class_end;  ///< number of the files up to the last one of each class
  std::vector<std::string> notes;       ///< for people

  std::int64_t size() const { return static_cast<std::int64_t>(files.size()); }
};

fs::path folder_of(const fs::path& root, const std::string& split) {
  return split.empty() ? root : root / split;
}

/// `classes`: in their order.
Listing list_split(const DatasetOptions& options, const std::string& split,
                   const std::vector<std::string>& classes) {
  const fs::path folder = folder_of(options.path, split);
  Listing listing{.split = split, .classes = classes, .files = {}, .class_end = {}, .notes = {}};
  check(!classes.empty(), ErrorKind::bad_data, folder.string(),
        ": expected one folder per class, found none");
  ForeignImages foreign;
  for (const std::string& name : classes) {
    const std::int64_t before = listing.size();
    if (!options.allow_empty_classes || folder_exists(folder / name))
      list_images(folder / name, "", 0, listing.files, foreign);
    listing.class_end.push_back(listing.size());
    if (listing.size() > before || options.allow_empty_classes) continue;
    foreign.note(folder.string(), options.skip_bad);
    fail(ErrorKind::bad_data, (folder / name).string(),
         ": expected images (.jpg, .jpeg or .png), found none; `allow_empty_classes` takes such classes");
  }
  for (std::string note : {foreign.note(folder.string(), options.skip_bad), note_on_order(classes)})
    if (!note.empty()) listing.notes.push_back(std::move(note));
  check(listing.size() > 0, ErrorKind::bad_data, folder.string(), ": no images in ", classes.size(),
        " classes");
  return listing;
}

std::string to_text(const Listing& listing) {
  IndexWriter index;
  index.add(std::vector{listing.split});
  index.add(listing.classes);
  index.add(listing.files);
  index.add(listing.class_end);
  index.add(listing.notes);
  return index.text();
}

Listing listing_in(const std::string& text, const std::string& path) {
  IndexReader index(text, path);
  const std::vector<std::string> split = index.names();
  Listing listing{.split = {},
                  .classes = index.names(),
                  .files = index.names(),
                  .class_end = index.numbers(),
                  .notes = index.names()};
  index.expect_end();
  const auto expect = [&](bool condition, const auto&... parts) {
    check(condition, ErrorKind::bad_data, path, ": the index of the image folder ", parts...);
  };
  expect(split.size() == 1, "names ", split.size(), " splits, expected 1");
  listing.split = split.front();
  expect(listing.class_end.size() == listing.classes.size(), "has ", listing.classes.size(),
         " classes, and where ", listing.class_end.size(), " end");
  std::int64_t last = 0;
  for (const std::int64_t end : listing.class_end) {
    expect(end >= last, "has a class of the images ", last, " to ", end - 1);
    last = end;
  }
  expect(last > 0 && last == listing.size(), "has ", listing.size(), " images, expected ", last,
         ", and one at least");
  expect(stays_inside(listing.split), "names '", listing.split, "', which is outside of it");
  for (const std::vector<std::string>& names : {std::cref(listing.classes), std::cref(listing.files)})
    for (const std::string& name : names)
      expect(!name.empty() && stays_inside(name), "names '", name, "', which is outside of it");
  return listing;
}

class ImageFolder final : public Dataset {
 public:
  ImageFolder(const fs::path& root, Listing listing, int channels)
      : folder_(folder_of(root, listing.split)), channels_(channels), listing_(std::move(listing)) {}

  std::int64_t size() const override { return listing_.size(); }
  Image image(std::int64_t index) const override {
    try {
      return load_image(path(index), channels_);
    } catch (const Error& error) {
      // The data set exists, so a listed file that cannot be opened is a bad image.
      check(error.kind() != ErrorKind::missing_input, ErrorKind::bad_data, error.what());
      throw;
    }
  }
  std::int32_t label(std::int64_t index) const override {
    position(index);
    return static_cast<std::int32_t>(std::ranges::upper_bound(listing_.class_end, index) -
                                     listing_.class_end.begin());
  }
  std::string name(std::int64_t index) const override { return path(index).string(); }
  std::string relative_name(std::int64_t index) const override {
    return listing_.classes[static_cast<std::size_t>(label(index))] + "/" + listing_.files[position(index)];
  }
  std::vector<std::string> notes() const override { return listing_.notes; }
  const std::vector<std::string>& class_names() const override { return listing_.classes; }
  int channels() const override { return channels_; }

 private:
  std::size_t position(std::int64_t index) const {
    check(index >= 0 && index < size(), "image folder: no image ", index, " among ", size());
    return static_cast<std::size_t>(index);
  }
  fs::path path(std::int64_t index) const { return folder_ / relative_name(index); }

  fs::path folder_;
  int channels_;
  Listing listing_;
};

/// Returns the first folder of the split that exists, or an empty name.
std::string first_folder(const fs::path& parent, Split split) {
  for (const char* name : names_of(split))
    if (folder_exists(parent / name)) return name;
  return {};
}

/// The name of the folder that has the split; empty if the data set is that folder.
std::string split_folder(const fs::path& path, Split split) {
  const std::string found = first_folder(path, split);
  if (!found.empty()) return found;
  check(split == Split::val, ErrorKind::missing_input, (path / names_of(split).front()).string(),
        ": no such folder");
  check(first_folder(path, Split::train).empty(), ErrorKind::missing_input, (path / "val").string(),
        ": no such folder, and no valid/, validation/ or test/ either");
  return {};
}

/// The classes of a split. A class that only one split has would shift the numbers of all classes after it,
/// so those of the others are those of training.
std::vector<std::string> classes_of_split(const DatasetOptions& options, Split split,
                                          const fs::path& folder) {
  std::vector<std::string> names = classes_of(folder, options.class_order);
  const auto is_misspelt = [](const std::string& name) { return is_split(in_small_letters(name)); };
  if (folder == options.path && !names.empty() && std::ranges::all_of(names, is_misspelt))
    fail(ErrorKind::bad_data, folder.string(), ": folder '", names.front(),
         "' is named like a split; expected '", in_small_letters(names.front()), "'");
  const fs::path train = options.path / "train";
  if (split == Split::train || !folder_exists(train)) return names;
  std::vector<std::string> expected = classes_of(train, options.class_order);
  const auto first_missing = [](const std::vector<std::string>& here, const std::vector<std::string>& there) {
    return std::ranges::find_if(
        here, [&](const std::string& name) { return std::ranges::find(there, name) == there.end(); });
  };
  const auto extra = first_missing(names, expected), missing = first_missing(expected, names);
  const auto refuse = [&](const std::string& name, const char* how) {
    fail(ErrorKind::bad_data, folder.string(), ": expected the classes of ", train.string(), "; class ", name,
         how);
  };
  if (extra != names.end()) refuse(*extra, " is not one of them");
  if (missing != expected.end() && !options.allow_empty_classes) refuse(*missing, " is missing");
  return expected;
}

}  // namespace

bool looks_like_image_folder(const fs::path& folder) {
  if (!first_folder(folder, Split::train).empty() || !first_folder(folder, Split::val).empty()) return true;
  return !classes_of(folder, ClassOrder::name).empty();
}

std::unique_ptr<Dataset> open_image_folder(const DatasetOptions& options, Split split) {
  const fs::path& path = options.path;
  const std::string text = options.once([&] {
    const std::string folder = split_folder(path, split);
    const Listing listing =
        list_split(options, folder, classes_of_split(options, split, folder_of(path, folder)));
    return to_text(listing);
  });
  return std::make_unique<ImageFolder>(path, listing_in(text, path.string()), options.channels);
}

}  // namespace faq
