#include "data/labels_file.h"

#include <algorithm>
#include <sstream>
#include <string_view>

#include "core/error.h"
#include "core/regular_file.h"
#include "core/text.h"

namespace faq {
namespace {

constexpr std::int64_t most_bytes = std::int64_t{256} << 20;

std::string_view trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r"), last = text.find_last_not_of(" \t\r");
  return first == text.npos ? std::string_view() : text.substr(first, last - first + 1);
}

/// Where IMAGE ends: names of images may have spaces, those of classes have none.
std::size_t separator_in(std::string_view line) {
  for (const char separator : {'\t', ','})
    if (const std::size_t at = line.find(separator); at != line.npos) return at;
  return line.rfind(' ');
}

}  // namespace

std::map<std::string, std::string> read_labels(const std::filesystem::path& file) {
  std::istringstream in(std::string(without_byte_order_mark(read_text_file(file, "labels", most_bytes))));
  std::map<std::string, std::string> labels;
  std::int64_t number = 0;
  bool is_kaggle = false;
  for (std::string next; std::getline(in, next);) {
    ++number;
    const std::string_view line = trimmed(next);
    if (line.empty()) continue;
    if (number == 1 && line == "ImageId,PredictionString") {
      is_kaggle = true;
      continue;
    }
    const std::string where = concat("labels ", file.string(), ", line ", number);
    const std::size_t at = separator_in(line);
    check(at != line.npos, ErrorKind::bad_data, where, ": expected IMAGE CLASS, found '", shortened(line, 80),
          "'",
          line.find_first_not_of("0123456789") == line.npos
              ? "; tools/ilsvrc_labels.py writes such lines from the development kit of ILSVRC2012"
              : "");
    const std::string image(trimmed(line.substr(0, at)));
    std::string_view name = trimmed(line.substr(at + 1));
    if (is_kaggle) name = name.substr(0, name.find(' '));  // the boxes
    check(!image.empty() && !name.empty(), ErrorKind::bad_data, where, ": expected IMAGE CLASS, found '",
          shortened(line, 80), "'");
    check(labels.emplace(image, name).second, ErrorKind::bad_data, where, ": image '", shortened(image, 80),
          "' occurs twice");
  }
  check(!labels.empty(), ErrorKind::bad_data, "labels ", file.string(), ": no lines");
  return labels;
}

}  // namespace faq
