#include "data/image_listing.h"

#include <algorithm>
#include <fstream>
#include <functional>

#include "core/error.h"
#include "core/file_error.h"
#include "data/index_text.h"

namespace faq {
namespace {

namespace fs = std::filesystem;

/// The first bytes of a file; fewer for what cannot be read.
std::vector<std::byte> head_of(const fs::path& file) {
  std::vector<std::byte> head(ForeignImages::head_bytes);
  std::ifstream in(file, std::ios::binary);
  in.read(reinterpret_cast<char*>(head.data()), static_cast<std::streamsize>(head.size()));
  head.resize(static_cast<std::size_t>(in.gcount()));
  return head;
}

void see_other(const fs::path& file, ForeignImages& foreign) {
  if (foreign.looks_at_others()) foreign.saw_other(file.string(), head_of(file));
}

void list_to_depth(const fs::path& folder, const std::string& relative, int depth,
                   std::vector<std::string>& files, ForeignImages& foreign) {
  check(depth < 8, ErrorKind::bad_data, folder.string(), ": folders nested too deeply, or in a circle");
  for (const fs::directory_entry& entry : entries_without_clutter(folder)) {
    const std::string file = entry.path().filename().string(), name = relative + file;
    const NamedAs kind = named_as(file);
    if (kind == NamedAs::image)
      files.push_back(name);
    else if (folder_exists(entry.path()))
      list_to_depth(entry.path(), name + "/", depth + 1, files, foreign);
    else if (file_type_of(entry.path()) != fs::file_type::regular)
      continue;
    else if (kind == NamedAs::other)
      see_other(entry.path(), foreign);
    else if (foreign.is_usable(entry.path().string(), head_of(entry.path())))
      files.push_back(name);
  }
}

}  // namespace

std::string Listing::path_of(std::int64_t index, std::int32_t label) const {
  const std::string& file = files[static_cast<std::size_t>(index)];
  return has_class_folders ? classes[static_cast<std::size_t>(label)] + "/" + file : file;
}

std::vector<fs::directory_entry> entries_without_clutter(const fs::path& folder) {
  std::vector<fs::directory_entry> found = entries_of(folder);
  std::erase_if(found, [](const fs::directory_entry& e) { return is_clutter(e.path().filename().native()); });
  return found;
}

void see_images_outside(const fs::path& folder, ForeignImages& foreign) {
  for (const fs::directory_entry& entry : entries_without_clutter(folder))
    if (file_type_of(entry.path()) == fs::file_type::regular) see_other(entry.path(), foreign);
}

void list_images(const fs::path& folder, const std::string& relative, std::vector<std::string>& files,
                 ForeignImages& foreign) {
  list_to_depth(folder, relative, 0, files, foreign);
}

std::string to_text(const Listing& listing) {
  IndexWriter index;
  index.add(std::vector{listing.split});
  index.add(std::vector<std::int64_t>{listing.has_class_folders ? 1 : 0});
  index.add(listing.classes);
  index.add(listing.files);
  index.add(listing.class_end);
  index.add(listing.notes);
  return index.text();
}

Listing listing_in(const std::string& text, const std::string& path) {
  IndexReader index(text, path);
  const std::vector<std::string> split = index.names();
  const std::vector<std::int64_t> class_folders = index.numbers();
  Listing listing{.split = {},
                  .has_class_folders = true,
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
  expect(class_folders.size() == 1 && class_folders.front() <= 1,
         "does not say whether it has class folders");
  listing.has_class_folders = class_folders.front() == 1;
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

}  // namespace faq
