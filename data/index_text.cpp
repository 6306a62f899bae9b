#include "data/index_text.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"

namespace faq {
namespace {

using nlohmann::json;

/// Names with a zero byte after each.
std::vector<std::uint8_t> joined(const std::vector<std::string>& names) {
  std::vector<std::uint8_t> bytes;
  for (const std::string& name : names) {
    check(name.find('\0') == name.npos, "index: a zero byte in the name ", name);
    bytes.insert(bytes.end(), name.begin(), name.end());
    bytes.push_back(0);
  }
  check(bytes.size() <= std::numeric_limits<std::uint32_t>::max(), "index: ", bytes.size(),
        " bytes of names, MessagePack ends at 4 GiB");
  return bytes;
}

/// Takes the lists from the parser as they come. The parser recurses for nested arrays, so an array within a
/// list of numbers ends it at once.
template <class List>
class Lists final : public nlohmann::json_sax<json> {
 public:
  explicit Lists(std::vector<List>& lists) : lists_(lists) {}

  bool start_array(std::size_t) override {
    if (++depth_ == 2) lists_.emplace_back(std::vector<std::int64_t>());
    return depth_ <= 2;
  }
  bool end_array() override {
    --depth_;
    return true;
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ != 2 || value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) return false;
    std::get<std::vector<std::int64_t>>(lists_.back()).push_back(static_cast<std::int64_t>(value));
    return true;
  }
  bool binary(binary_t& bytes) override {
    if (depth_ != 1 || bytes.has_subtype() || (!bytes.empty() && bytes.back() != 0)) return false;
    std::vector<std::string> names;
    for (auto begin = bytes.begin(); begin != bytes.end();) {
      const auto end = std::find(begin, bytes.end(), std::uint8_t{0});
      names.emplace_back(begin, end);
      begin = end + 1;
    }
    lists_.emplace_back(std::move(names));
    return true;
  }

  bool null() override { return false; }
  bool boolean(bool) override { return false; }
  bool number_integer(number_integer_t) override { return false; }
  bool number_float(number_float_t, const string_t&) override { return false; }
  bool string(string_t&) override { return false; }
  bool start_object(std::size_t) override { return false; }
  bool key(string_t&) override { return false; }
  bool end_object() override { return false; }
  bool parse_error(std::size_t, const std::string&, const json::exception&) override { return false; }

 private:
  std::vector<List>& lists_;
  int depth_ = 0;
};

}  // namespace

void IndexWriter::add(const std::vector<std::string>& names) {
  lists_.push_back(json::binary(joined(names)));
}

void IndexWriter::add(const std::vector<std::int64_t>& numbers) { lists_.push_back(numbers); }

std::string IndexWriter::text() const {
  std::string text;
  json::to_msgpack(lists_, text);
  return text;
}

IndexReader::IndexReader(const std::string& text, std::string what) : what_(std::move(what)) {
  Lists<List> lists(lists_);
  check(json::sax_parse(text, &lists, json::input_format_t::msgpack), ErrorKind::bad_data, what_,
        ": expected an index of the data set, got ", text.size(), " bytes that are none");
}

template <class T>
std::vector<T> IndexReader::next(const char* kind) {
  auto* list = at_ < lists_.size() ? std::get_if<std::vector<T>>(&lists_[at_]) : nullptr;
  check(list != nullptr, ErrorKind::bad_data, what_, ": expected ", kind, " as list ", at_, " of ",
        lists_.size(), " of the data set's index");
  ++at_;
  return std::move(*list);
}

std::vector<std::string> IndexReader::names() { return next<std::string>("names"); }

std::vector<std::int64_t> IndexReader::numbers() { return next<std::int64_t>("numbers"); }

void IndexReader::expect_end() const {
  check(at_ == lists_.size(), ErrorKind::bad_data, what_, ": expected ", at_,
        " lists in the data set's index, got ", lists_.size());
}

bool stays_inside(const std::string& path) {
  return !path.starts_with('/') && ("/" + path + "/").find("/../") == path.npos;
}

}  // namespace faq
