// What the names of files and folders say about a data set. Folders and tar files follow the same rules.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace faq {

/// What a file is, by the extension of its name, in upper or lower case.
enum class NamedAs {
  image,    ///< .jpg, .jpeg, .jpe, .jfif, .png: an image that is decoded, whatever it holds
  foreign,  ///< an image of a kind that is not decoded, such as .webp; it may hold a JPEG or PNG all the same
  other     ///< no image
};
NamedAs named_as(std::string_view path);

/// The names of folders and shards that hold a split; of validation the first that exists counts.
std::span<const char* const> names_of(Split split);
/// True if the name is one of them.
bool is_split(std::string_view name);

/// True if a path has a component that is neither a class nor an image, but left by a file system, a desktop
/// or a NAS: hidden names, `__MACOSX`, `@eaDir`, `lost+found`, `Thumbs.db` and the like.
bool is_clutter(std::string_view path);

/// "Train.PNG" as "train.png"; other than ASCII's letters stay.
std::string in_small_letters(std::string_view text);

/// Sorts class names: by their bytes, as torchvision does, or with runs of digits by their value.
void sort_classes(std::vector<std::string>& names, ClassOrder order);

/// The number of a class that is named by one: digits alone, below 2^20. Nothing for a name.
std::optional<std::int32_t> class_number(std::string_view name);

/// The names as a data set returns them (Dataset::class_names()).
std::vector<std::string> in_utf8(const std::vector<std::string>& names);

/// A line for people if the names are numbers that do not come in the order of their values; else empty.
std::string note_on_order(const std::vector<std::string>& classes);

/// The images of kinds that are not decoded, found while a data set is listed.
class ForeignImages {
 public:
  /// `head`: the first bytes of the file. Returns true if it is a JPEG or PNG under another name, which is
  /// used; else it is remembered as foreign.
  bool is_usable(const std::string& path, std::span<const std::byte> head);
  /// Throws bad_data with the first names if there are more than `most`. Returns a line for people; empty if
  /// there are none.
  std::string note(const std::string& where, std::int64_t most) const;

  static constexpr std::size_t head_bytes = 8;  ///< what is_usable() wants to see

  /// A file whose name is that of no image, as `1.jpg.bak`, or that is in no class. If it begins as a JPEG or
  /// PNG does, note() has it: images that are not used are not lost without a word.
  void saw_other(const std::string& path, std::span<const std::byte> head);
  /// False when so many others were seen that more would take long to open, e.g. a text beside every image.
  bool looks_at_others() const { return others_ < 1000; }

 private:
  struct Some {
    std::int64_t count = 0;
    std::vector<std::string> first;
    void add(const std::string& path);
    std::string names() const;
  };
  Some unread_;  ///< of kinds that are not decoded
  Some unused_;  ///< JPEG and PNG
  std::int64_t others_ = 0;
};

}  // namespace faq
