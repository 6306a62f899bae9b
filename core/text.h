// Small functions for names.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace faq {

/// Returns the candidate with the smallest edit distance to `name`; empty when there are no candidates.
std::string nearest(std::string_view name, const std::vector<std::string>& candidates);

/// The number of letters to insert, to leave out or to change (Levenshtein's distance).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// "a, b, c".
std::string join(const std::vector<std::string>& parts, std::string_view separator = ", ");

/// Returns the parts between separators: one part more than there are separators.
std::vector<std::string> split(std::string_view text, char separator = ',');

}  // namespace faq
