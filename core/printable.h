// Text of foreign origin, such as names of files and classes, for a terminal or a log.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace faq {

/// Returns the text as one line of UTF-8 that moves no cursor and hides nothing. Control characters, line and
/// paragraph separators and marks that change the direction of writing become \n, \x1b, \u{202e}; bytes that
/// are not UTF-8 become \xff.
std::string printable(std::string_view text);

/// The same, in at most `longest` bytes. Of a longer text both ends stay, because a message says at its start
/// what was being done, and often at its end what was expected.
std::string printable(std::string_view text, std::size_t longest);

/// The length of an error or a warning that programs print. The name of a file takes most of a long one.
inline constexpr std::size_t longest_message = 500;

}  // namespace faq
