// Small functions for names and other short texts.
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

/// The same, of at most `most` bytes or so: "a, b and 17 more". The first part is always there. For lists
/// that a file makes as long as it likes.
std::string join_first(const std::vector<std::string>& parts, std::string_view separator, std::size_t most);

/// Returns a text that is at most `most` bytes long, "..." included. It is cut between characters of UTF-8.
/// Zero bytes become '?': the message of an exception would end at one.
std::string shortened(std::string_view text, std::size_t most);

/// True if `pattern` stands for the whole text: '*' for any run of characters, '?' for any one.
bool matches(std::string_view pattern, std::string_view text);

/// Foreign text as it may stand in HTML and SVG, in an element or in an attribute: printable()
/// (core/printable.h), and none of it is markup.
std::string markup_text(std::string_view text);

/// Without the mark of UTF-8 that Windows' programs put first (U+FEFF).
std::string_view without_byte_order_mark(std::string_view text);

/// Returns the parts between separators: one part more than there are separators.
std::vector<std::string> split(std::string_view text, char separator = ',');

}  // namespace faq
