// A split whose images lie in one folder, as ILSVRC2012 comes: a file beside them has their classes.

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "core/file_error.h"
#include "core/text.h"
#include "data/image_listing.h"
#include "data/labels_file.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

using Labels = std::map<std::string, std::string>;

/// What the labels say of a file, which they name with its extension or, as Kaggle's do, without.
Labels::const_iterator label_of(const std::string& file, const Labels& labels) {
  const auto found = labels.find(file);
  return found != labels.end() ? found : labels.find(fs::path(file).stem().string());
}

bool are_numbers(const std::vector<std::string>& names) {
  return std::ranges::all_of(names, [](const std::string& name) { return class_number(name).has_value(); });
}

/// The classes in order, and the label of each name.
struct Classes {
  std::vector<std::string> names;
  std::map<std::string, std::size_t> labels;
};

/// Numbers in a file of labels count the classes of training from 0, unless these are numbers themselves.
Classes classes_of(const Labels& labels, const std::vector<std::string>& trained, ClassOrder order,
                   const std::string& file) {
  std::set<std::string> present;
  for (const auto& [image, name] : labels) present.insert(name);
  std::vector<std::string> found(present.begin(), present.end());
  Classes classes{trained, {}};
  const bool by_number = are_numbers(found) && (trained.empty() || !are_numbers(trained));
  if (by_number) {
    for (const std::string& name : found)
      classes.labels[name] = static_cast<std::size_t>(*class_number(name));
    const std::size_t count = 1 + std::ranges::max_element(classes.labels, {}, [](const auto& pair) {
                                    return pair.second;
                                  })->second;
    if (trained.empty())
      for (std::size_t i = 0; i < count; ++i) classes.names.push_back(std::to_string(i));
    check(count <= classes.names.size(), ErrorKind::bad_data, "labels ", file, ": class ", count - 1,
          ", there are 0 to ", classes.names.size() - 1);
    return classes;
  }
  if (trained.empty()) {
    sort_classes(found, order);
    classes.names = found;
  }
  for (std::size_t i = 0; i < classes.names.size(); ++i) classes.labels[classes.names[i]] = i;
  for (const std::string& name : found)
    check(classes.labels.contains(name), ErrorKind::bad_data, "labels ", file, ": class '",
          shortened(name, 80), "' is none of the ", trained.size(), " of train/");
  return classes;
}

}  // namespace

Listing list_flat_split(const DatasetOptions& options, const std::string& split,
                        const std::vector<std::string>& trained) {
  const fs::path folder = options.path / split;
  const std::string file = options.val_labels.string();
  for (const fs::directory_entry& entry : entries_without_clutter(folder))
    check(!folder_exists(entry.path()), ErrorKind::bad_data, folder.string(), ": has the folder '",
          entry.path().filename().string(), "'; expected images alone, whose classes `val_labels` has");
  std::vector<std::string> files;
  ForeignImages foreign;
  list_images(folder, "", files, foreign);
  const std::string note = foreign.note(folder.string(), options.skip_bad);
  check(!files.empty(), ErrorKind::bad_data, folder.string(), ": no images");

  const Labels labels = read_labels(options.val_labels);
  const Classes classes = classes_of(labels, trained, options.class_order, file);
  std::vector<std::vector<std::string>> by_class(classes.names.size());
  std::set<std::string> seen;
  for (std::string& name : files) {
    const auto label = label_of(name, labels);
    check(label != labels.end(), ErrorKind::bad_data, "labels ", file, ": nothing about ",
          (folder / name).string());
    check(seen.insert(label->first).second, ErrorKind::bad_data, "labels ", file, ": '",
          shortened(label->first, 80), "' is two images of ", folder.string());
    by_class[classes.labels.at(label->second)].push_back(std::move(name));
  }
  // A folder that was copied in part is not evaluated as if it were whole.
  check(files.size() == labels.size(), ErrorKind::bad_data, folder.string(), ": ", files.size(),
        " images, the labels ", file, " are about ", labels.size());

  Listing listing{.split = split,
                  .has_class_folders = false,
                  .classes = classes.names,
                  .files = {},
                  .class_end = {},
                  .notes = {}};
  for (std::size_t i = 0; i < by_class.size(); ++i) {
    check(!by_class[i].empty() || options.allow_empty_classes, ErrorKind::bad_data, folder.string(),
          ": class '", classes.names[i], "' has no images; `allow_empty_classes` takes such classes");
    std::ranges::move(by_class[i], std::back_inserter(listing.files));
    listing.class_end.push_back(listing.size());
  }
  if (!note.empty()) listing.notes.push_back(note);
  return listing;
}

}  // namespace faq
