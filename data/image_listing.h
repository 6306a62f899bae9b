// What is found in the folder of a split, of the layout "image folder". Included by data/*.cpp only.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "data/dataset.h"
#include "data/names.h"

namespace faq {

/// What is found in the folder of a split.
struct Listing {
  std::string split;                    ///< name of the folder; empty: the data set itself
  bool has_class_folders = true;        ///< else the images lie in the folder of the split
  std::vector<std::string> classes;     ///< in order
  std::vector<std::string> files;       ///< relative to the folder they lie in, by class
  std::vector<std::int64_t> class_end;  ///< number of the files up to the last one of each class
  std::vector<std::string> notes;       ///< for people

  /// The file of an image of a class, relative to the folder of the split.
  std::string path_of(std::int64_t index, std::int32_t label) const;
  std::int64_t size() const { return static_cast<std::int64_t>(files.size()); }
};

/// For other processes (DatasetOptions::once).
std::string to_text(const Listing& listing);
/// Throws bad_data for a text that to_text() does not make. `path`: the data set.
Listing listing_in(const std::string& text, const std::string& path);

/// The entries of a folder without clutter, sorted by name.
std::vector<std::filesystem::directory_entry> entries_without_clutter(const std::filesystem::path& folder);

/// Tells `foreign` of the files that lie in `folder` itself, beside its class folders.
void see_images_outside(const std::filesystem::path& folder, ForeignImages& foreign);

/// Adds the files below `folder` that are named like images to `files`, with `relative` before their names.
/// It lists anything with such a name, so that a wrong file is an error and not skipped.
void list_images(const std::filesystem::path& folder, const std::string& relative,
                 std::vector<std::string>& files, ForeignImages& foreign);

/// Lists a split whose images lie in one folder. `labels`: the file that has their classes. `trained`: the
/// classes of training, in order; empty if there is no such folder. Throws bad_data, with a name, if an image
/// has no class or the other way round.
Listing list_flat_split(const DatasetOptions& options, const std::string& split,
                        const std::vector<std::string>& trained);

}  // namespace faq
