// JSON from files that anybody may have written.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace faq {

/// Throws bad_data, naming `what`, for text that is not JSON or is nested deeper than anything of ours: what
/// walks a document afterwards calls itself for every level.
nlohmann::json parse_json(std::string_view text, const std::string& what);

}  // namespace faq
