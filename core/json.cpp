#include "core/json.h"

#include <set>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace faq {

std::string cause_of(const nlohmann::json::exception& error) {
  const std::string text = error.what();
  return shortened(text.substr(0, text.find("; last read")), 200);
}

nlohmann::json parse_json(std::string_view text, const std::string& what) {
  constexpr int deepest = 32;
  constexpr std::size_t longest = 32 << 20;  // a parsed document takes many times the memory of its text
  std::vector<std::set<std::string>> keys;   // of the objects that are open
  const auto watch = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    check(depth <= deepest, ErrorKind::bad_data, what, ": JSON nested deeper than ", deepest, " levels");
    using Event = nlohmann::json::parse_event_t;
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    // The parser would keep the last of them, other readers the first.
    if (event == Event::key)
      check(keys.back().insert(parsed.get<std::string>()).second, ErrorKind::bad_data, what, ": key ",
            shortened(parsed.dump(), 120), " twice in one object");
    return true;
  };
  check(text.size() <= longest, ErrorKind::bad_data, what, ": JSON of ", text.size(), " bytes, at most ",
        longest);
  // The parser would take a zero byte as the end of its input.
  const std::size_t zero = text.find('\0');
  check(zero == text.npos, ErrorKind::bad_data, what, ": not valid JSON at byte ", zero + 1, ": a zero byte");
  try {
    return nlohmann::json::parse(text, watch);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, what, ": ", cause_of(error));
  }
}

std::int64_t parse_integer(const nlohmann::json& value, const std::string& what, std::int64_t low,
                           std::int64_t high) {
  // The library compares an unsigned number as if it were signed.
  const bool is_signed =
      value.is_number_integer() &&
      (!value.is_number_unsigned() || std::in_range<std::int64_t>(value.get<std::uint64_t>()));
  check(is_signed && value >= low && value <= high, ErrorKind::bad_data, what, " ",
        shortened(json_text(value), 80), ": expected ", low, " to ", high);
  return value.get<std::int64_t>();
}

std::string json_text(const nlohmann::json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

std::string in_utf8(const std::string& text) {
  return nlohmann::json::parse(json_text(text)).get<std::string>();
}

}  // namespace faq
