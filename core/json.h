// JSON from files that anybody may have written, and for files that anybody may read.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace faq {

/// Throws bad_data, naming `what`, for text that is not JSON or is nested deeper than anything of ours: what
/// walks a document afterwards calls itself for every level.
nlohmann::json parse_json(std::string_view text, const std::string& what);

/// On one line, or on many with that indent. Names of files and folders need not be UTF-8, which JSON is:
/// what is not becomes U+FFFD.
std::string json_text(const nlohmann::json& json, int indent = -1);

}  // namespace faq
