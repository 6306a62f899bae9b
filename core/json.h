// Reads JSON from untrusted files, and writes JSON that any reader can parse.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace faq {

/// The message of the JSON library without what it read last, and not longer than 200 bytes: both may come
/// from a file.
std::string cause_of(const nlohmann::json::exception& error);

/// Parses JSON. Throws bad_data, with `what`, for text that is not JSON, is nested too deep, has a key twice
/// in one object, or is longer than 32 MiB. The depth is limited because code that walks a document recurses
/// for every level.
nlohmann::json parse_json(std::string_view text, const std::string& what);

/// Returns a number from a file. Throws bad_data, with `what` and the expected range, for anything but a
/// whole number from `low` to `high`. (The library's get<int>() makes some integer of any number.)
std::int64_t parse_integer(const nlohmann::json& value, const std::string& what, std::int64_t low,
                           std::int64_t high);

/// Writes JSON on one line, or on several lines with that indent. Names of files and folders may not be
/// UTF-8, but JSON must be: bytes that are not UTF-8 become U+FFFD.
std::string json_text(const nlohmann::json& json, int indent = -1);
/// The text, with what is not UTF-8 replaced as json_text() replaces it.
std::string in_utf8(const std::string& text);

}  // namespace faq
