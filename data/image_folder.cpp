// Image folders with one folder per class, as torchvision's ImageFolder reads them.

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/file_error.h"
#include "data/decode.h"
#include "data/formats.h"
#include "data/image_listing.h"
#include "data/names.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

std::vector<std::string> classes_of(const fs::path& folder, ClassOrder order) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries_without_clutter(folder))
    if (folder_exists(entry.path())) names.push_back(entry.path().filename().string());
  sort_classes(names, order);
  return names;
}

fs::path folder_of(const fs::path& root, const std::string& split) {
  return split.empty() ? root : root / split;
}

/// `classes`: in their order.
Listing list_split(const DatasetOptions& options, const std::string& split,
                   const std::vector<std::string>& classes) {
  const fs::path folder = folder_of(options.path, split);
  Listing listing{.split = split,
                  .has_class_folders = true,
                  .classes = classes,
                  .files = {},
                  .class_end = {},
                  .notes = {}};
  ForeignImages foreign;
  for (const std::string& name : classes) {
    const std::int64_t before = listing.size();
    if (!options.allow_empty_classes || folder_exists(folder / name))
      list_images(folder / name, "", listing.files, foreign);
    listing.class_end.push_back(listing.size());
    if (listing.size() > before || options.allow_empty_classes) continue;
    foreign.note(folder.string(), options.skip_bad);
    fail(ErrorKind::bad_data, (folder / name).string(),
         ": expected images (.jpg, .jpeg or .png), found none; `allow_empty_classes` takes such classes");
  }
  see_images_outside(folder, foreign);
  for (std::string note : {foreign.note(folder.string(), options.skip_bad), note_on_order(classes)})
    if (!note.empty()) listing.notes.push_back(std::move(note));
  check(listing.size() > 0, ErrorKind::bad_data, folder.string(), ": no images in ", classes.size(),
        " classes");
  return listing;
}

class ImageFolder final : public Dataset {
 public:
  ImageFolder(const fs::path& root, Listing listing, int channels)
      : folder_(folder_of(root, listing.split)),
        channels_(channels),
        listing_(std::move(listing)),
        names_(in_utf8(listing_.classes)) {}

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
    check(index >= 0 && index < size(), "image folder: no image ", index, " among ", size());
    return static_cast<std::int32_t>(std::ranges::upper_bound(listing_.class_end, index) -
                                     listing_.class_end.begin());
  }
  std::string name(std::int64_t index) const override { return path(index).string(); }
  std::string relative_name(std::int64_t index) const override {
    return listing_.path_of(index, label(index));
  }
  std::vector<std::string> notes() const override { return listing_.notes; }
  const std::vector<std::string>& class_names() const override { return names_; }
  int channels() const override { return channels_; }

 private:
  fs::path path(std::int64_t index) const { return folder_ / relative_name(index); }

  fs::path folder_;
  int channels_;
  Listing listing_;
  std::vector<std::string> names_;  ///< of classes, as people and files see them
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

std::vector<std::string> classes_of_training(const DatasetOptions& options) {
  const fs::path folder = options.path / "train";
  return folder_exists(folder) ? classes_of(folder, options.class_order) : std::vector<std::string>();
}

bool has_images(const fs::path& folder) {
  return std::ranges::any_of(entries_without_clutter(folder), [](const fs::directory_entry& entry) {
    return named_as(entry.path().filename().native()) == NamedAs::image;
  });
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
  check(!names.empty(), ErrorKind::bad_data, folder.string(), ": expected one folder per class, found none",
        split == Split::val && has_images(folder)
            ? ", but images; a file that has their classes is named by `val_labels`"
            : "");
  std::vector<std::string> expected = classes_of_training(options);
  if (split == Split::train || expected.empty()) return names;
  const auto first_missing = [](const std::vector<std::string>& here, const std::vector<std::string>& there) {
    return std::ranges::find_if(
        here, [&](const std::string& name) { return std::ranges::find(there, name) == there.end(); });
  };
  const auto extra = first_missing(names, expected), missing = first_missing(expected, names);
  const auto refuse = [&](const std::string& name, const char* how) {
    fail(ErrorKind::bad_data, folder.string(), ": expected the classes of ",
         (options.path / "train").string(), "; class ", name, how);
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
    if (split == Split::val && !options.val_labels.empty())
      return to_text(list_flat_split(options, folder, classes_of_training(options)));
    return to_text(list_split(options, folder, classes_of_split(options, split, folder_of(path, folder))));
  });
  return std::make_unique<ImageFolder>(path, listing_in(text, path.string()), options.channels);
}

}  // namespace faq
