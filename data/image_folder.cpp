// Image folders with one folder per class, as torchvision's ImageFolder reads them.

#include <algorithm>
#include <cctype>
#include <string_view>
#include <utility>

#include "core/error.h"
#include "data/decode.h"
#include "data/formats.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

bool hidden(const std::string& name) { return name.starts_with('.'); }

/// The entries of a folder that are not hidden, sorted by name.
std::vector<fs::directory_entry> entries(const fs::path& folder) {
  std::vector<fs::directory_entry> found;
  std::error_code error;
  fs::directory_iterator it(folder, error);
  for (; !error && it != fs::directory_iterator(); it.increment(error))
    if (!hidden(it->path().filename().string())) found.push_back(*it);
  check(!error, ErrorKind::missing_input, folder.string(), ": cannot be listed: ", error.message());
  std::ranges::sort(found, {},
                    [](const fs::directory_entry& e) -> const std::string& { return e.path().native(); });
  return found;
}

bool is_folder(const fs::directory_entry& entry) {
  std::error_code ignored;
  return entry.is_directory(ignored);
}
bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

std::vector<std::string> classes_of(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : entries(folder))
    if (is_folder(entry)) names.push_back(entry.path().filename().string());
  return names;
}

/// Lists the files below `folder` that are named like images, relative to it. It lists anything with such a
/// name, so that a wrong file is an error and not skipped.
void list_images(const fs::path& folder, const std::string& relative, int depth,
                 std::vector<std::string>& files) {
  check(depth < 8, ErrorKind::bad_data, folder.string(), ": folders nested too deeply, or in a circle");
  for (const fs::directory_entry& entry : entries(folder)) {
    const std::string name = relative + entry.path().filename().string();
    if (named_like_an_image(entry.path()))
      files.push_back(name);
    else if (is_folder(entry))
      list_images(entry.path(), name + "/", depth + 1, files);
  }
}

class ImageFolder final : public Dataset {
 public:
  ImageFolder(fs::path folder, int channels)
      : folder_(std::move(folder)), channels_(channels), class_names_(classes_of(folder_)) {
    check(!class_names_.empty(), ErrorKind::bad_data, folder_.string(),
          ": expected one folder per class, found none");
    for (const std::string& name : class_names_) {
      list_images(folder_ / name, "", 0, files_);
      const std::int64_t before = class_end_.empty() ? 0 : class_end_.back();
      check(size() > before, ErrorKind::bad_data, (folder_ / name).string(),
            ": expected images (.jpg, .jpeg or .png), found none");
      class_end_.push_back(size());
    }
  }

  std::int64_t size() const override { return static_cast<std::int64_t>(files_.size()); }
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
    return static_cast<std::int32_t>(std::ranges::upper_bound(class_end_, index) - class_end_.begin());
  }
  std::string name(std::int64_t index) const override { return path(index).string(); }
  const std::vector<std::string>& class_names() const override { return class_names_; }
  int channels() const override { return channels_; }

 private:
  std::size_t position(std::int64_t index) const {
    check(index >= 0 && index < size(), "image folder: no image ", index, " among ", size());
    return static_cast<std::size_t>(index);
  }
  fs::path path(std::int64_t index) const {
    const std::string& file = files_[position(index)];
    return folder_ / class_names_[static_cast<std::size_t>(label(index))] / file;
  }

  fs::path folder_;
  int channels_;
  std::vector<std::string> class_names_;
  std::vector<std::string> files_;       ///< relative to the folder of their class
  std::vector<std::int64_t> class_end_;  ///< index after the last image of each class
};

/// Returns the first of the folders that exists, or an empty path.
fs::path first_folder(const fs::path& parent, std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (is_folder(parent / name)) return parent / name;
  return {};
}

fs::path split_folder(const fs::path& path, Split split) {
  const fs::path train = first_folder(path, {"train"}), val = first_folder(path, {"val", "test"});
  if (split == Split::train) {
    check(!train.empty(), ErrorKind::missing_input, (path / "train").string(), ": no such folder");
    return train;
  }
  if (!val.empty()) return val;
  check(train.empty(), ErrorKind::missing_input, (path / "val").string(),
        ": no such folder, and no test/ either");
  return path;
}

/// A class that only one split has would shift the numbers of all classes after it.
void check_same_classes(const fs::path& folder, const std::vector<std::string>& names, const fs::path& train,
                        const std::vector<std::string>& expected) {
  const auto [here, there] = std::ranges::mismatch(names, expected);
  if (here == names.end() && there == expected.end()) return;
  const bool extra = there == expected.end() || (here != names.end() && *here < *there);
  fail(ErrorKind::bad_data, folder.string(), ": expected the classes of ", train.string(), "; ",
       extra ? concat("class ", *here, " is not one of them") : concat("class ", *there, " is missing"));
}

}  // namespace

bool named_like_an_image(const fs::path& path) {
  std::string extension = path.extension().string();
  std::ranges::transform(extension, extension.begin(), [](unsigned char c) { return std::tolower(c); });
  constexpr std::string_view extensions[] = {".jpg", ".jpeg", ".png",  ".ppm", ".bmp",
                                             ".pgm", ".tif",  ".tiff", ".webp"};
  return std::ranges::find(extensions, extension) != std::end(extensions);
}

bool looks_like_image_folder(const fs::path& folder) {
  if (!first_folder(folder, {"train", "val", "test"}).empty()) return true;
  return !classes_of(folder).empty();
}

std::unique_ptr<Dataset> open_image_folder(const DatasetOptions& options, Split split) {
  const fs::path folder = split_folder(options.path, split), train = options.path / "train";
  auto dataset = std::make_unique<ImageFolder>(folder, options.channels);
  if (split == Split::val && is_folder(train))
    check_same_classes(folder, dataset->class_names(), train, classes_of(train));
  return dataset;
}

}  // namespace faq
