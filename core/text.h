// Small help with names.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace faq {

/// The candidate with the smallest edit distance to `name`; empty when there are none.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

/// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

/// The parts between separators: one more than there are of them.
std::vector<std::string> split(std::string_view text, char separator = ',');

}  // namespace faq
