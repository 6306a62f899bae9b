#include "core/json.h"

#include "core/error.h"

namespace faq {

nlohmann::json parse_json(std::string_view text, const std::string& what) {
  constexpr int deepest = 32;
  const auto limit = [&](int depth, nlohmann::json::parse_event_t, nlohmann::json&) {
    check(depth <= deepest, ErrorKind::bad_data, what, ": JSON nested deeper than ", deepest, " levels");
    return true;
  };
  // The parser would take a zero byte as the end of its input.
  const std::size_t zero = text.find('\0');
  check(zero == text.npos, ErrorKind::bad_data, what, ": not valid JSON at byte ", zero + 1, ": a zero byte");
  try {
    return nlohmann::json::parse(text, limit);
  } catch (const nlohmann::json::exception& error) {
    fail(ErrorKind::bad_data, what, ": ", error.what());
  }
}

std::string json_text(const nlohmann::json& json, int indent) {
  return json.dump(indent, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace faq
