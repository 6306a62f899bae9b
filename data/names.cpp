#include "data/names.h"

#include <algorithm>
#include <cctype>
#include <charconv>

#include "core/error.h"
#include "core/json.h"
#include "core/text.h"
#include "data/decode.h"

namespace faq {
namespace {

constexpr std::string_view image_extensions[] = {"jpg", "jpeg", "jpe", "jfif", "png"};
constexpr std::string_view foreign_extensions[] = {"avif", "bmp", "gif", "heic", "heif", "ico",  "jp2", "jxl",
                                                   "pbm",  "pgm", "pnm", "ppm",  "tif",  "tiff", "webp"};
constexpr std::string_view clutter[] = {"__MACOSX",     "@eaDir",      "lost+found",
                                        "Thumbs.db",    "ehthumbs.db", "desktop.ini",
                                        "$RECYCLE.BIN", "#recycle",    "System Volume Information"};

constexpr const char* training[] = {"train"};
constexpr const char* validation[] = {"val", "valid", "validation", "test"};
constexpr const char* testing[] = {"test"};

std::string extension_of(std::string_view path) {
  const std::string_view name = path.substr(path.rfind('/') + 1);  // npos + 1: 0
  const std::size_t dot = name.rfind('.');
  return in_small_letters(dot == name.npos ? std::string_view() : name.substr(dot + 1));
}

bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// The run of digits that begins at `at`, without leading zeros.
std::string_view number_at(std::string_view text, std::size_t at, std::size_t& end) {
  end = at;
  while (end < text.size() && is_digit(text[end])) ++end;
  while (at + 1 < end && text[at] == '0') ++at;
  return text.substr(at, end - at);
}

/// Runs of digits by value, all else by bytes. Names that differ in leading zeros alone come by bytes.
bool natural_less(const std::string& a, const std::string& b) {
  std::size_t i = 0, j = 0;
  while (i < a.size() && j < b.size()) {
    if (is_digit(a[i]) && is_digit(b[j])) {
      const std::string_view x = number_at(a, i, i), y = number_at(b, j, j);
      if (x.size() != y.size()) return x.size() < y.size();
      if (x != y) return x < y;
    } else {
      if (a[i] != b[j]) return static_cast<unsigned char>(a[i]) < static_cast<unsigned char>(b[j]);
      ++i, ++j;
    }
  }
  const std::size_t left_of_a = a.size() - i, left_of_b = b.size() - j;
  return left_of_a == left_of_b ? a < b : left_of_a < left_of_b;
}

}  // namespace

std::vector<std::string> in_utf8(const std::vector<std::string>& names) {
  std::vector<std::string> texts;
  for (const std::string& name : names) texts.push_back(in_utf8(name));
  return texts;
}

std::string in_small_letters(std::string_view text) {
  std::string small(text);
  std::ranges::transform(small, small.begin(), [](unsigned char c) { return std::tolower(c); });
  return small;
}

NamedAs named_as(std::string_view path) {
  const std::string extension = extension_of(path);
  if (std::ranges::find(image_extensions, extension) != std::end(image_extensions)) return NamedAs::image;
  const bool foreign = std::ranges::find(foreign_extensions, extension) != std::end(foreign_extensions);
  return foreign ? NamedAs::foreign : NamedAs::other;
}

std::span<const char* const> names_of(Split split) {
  if (split == Split::train) return training;
  if (split == Split::val) return validation;
  return testing;
}

bool is_split(std::string_view name) {
  const auto is_one = [&](Split split) {
    return std::ranges::any_of(names_of(split), [&](const char* one) { return name == one; });
  };
  return is_one(Split::train) || is_one(Split::val);
}

bool is_clutter(std::string_view path) {
  while (!path.empty()) {
    const std::size_t end = std::min(path.find('/'), path.size());
    const std::string_view name = path.substr(0, end);
    const bool relative = name == "." || name == "..";
    if (!relative && (name.starts_with('.') || std::ranges::find(clutter, name) != std::end(clutter)))
      return true;
    path.remove_prefix(std::min(end + 1, path.size()));
  }
  return false;
}

void sort_classes(std::vector<std::string>& names, ClassOrder order) {
  if (order == ClassOrder::natural)
    std::ranges::sort(names, natural_less);
  else
    std::ranges::sort(names);
}

std::optional<std::int32_t> class_number(std::string_view name) {
  constexpr std::int32_t most_classes = 1 << 20;
  std::int32_t number = 0;
  const char* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data(), end, number);
  if (error != std::errc() || stop != end || number < 0 || number >= most_classes) return {};
  return number;
}

std::string note_on_order(const std::vector<std::string>& classes) {
  const auto is_number = [](const std::string& name) { return std::ranges::all_of(name, is_digit); };
  if (!std::ranges::all_of(classes, is_number) || std::ranges::is_sorted(classes, natural_less)) return {};
  std::vector<std::string> first(classes.begin(),
                                 classes.begin() + std::min<std::ptrdiff_t>(4, std::ssize(classes)));
  return concat("the classes are numbers, in the order of their names: ", join(first, ", "),
                ", …; a network trained with 0, 1, 2, … in this order wants the class order natural");
}

void ForeignImages::Some::add(const std::string& path) {
  ++count;
  if (first.size() < 3) first.push_back(path);
}

std::string ForeignImages::Some::names() const {
  return concat(join(first, ", "), count > std::ssize(first) ? ", …" : "");
}

bool ForeignImages::is_usable(const std::string& path, std::span<const std::byte> head) {
  if (begins_as_image(head)) return true;
  unread_.add(path);
  return false;
}

void ForeignImages::saw_other(const std::string& path, std::span<const std::byte> head) {
  ++others_;
  if (begins_as_image(head)) unused_.add(path);
}

std::string ForeignImages::note(const std::string& where, std::int64_t most) const {
  const auto& [count, first] = unread_;
  check(count <= most, ErrorKind::bad_data, where, ": ", count,
        count == 1 ? " image of a kind that is not read" : " images of kinds that are not read",
        " (JPEG and PNG are): ", unread_.names(),
        "; convert or remove them, or leave them out with `skip_bad` ", count);
  std::string text;
  if (count > 0)
    text =
        concat("warning: skipped ", count, " of kinds that are not read in ", where, ": ", unread_.names());
  if (unused_.count > 0)
    text += concat(text.empty() ? "warning: " : "; ", unused_.count,
                   unused_.count == 1 ? " image is" : " images are", " not used in ", where,
                   ", for want of the name of an image or of a class folder: ", unused_.names());
  return text;
}

}  // namespace faq
