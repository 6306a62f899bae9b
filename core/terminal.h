// What the standard streams are connected to.
#pragma once

#include <cstddef>

namespace faq {

/// True for a terminal that can erase lines. A file, a pipe, and TERM=dumb are none.
bool is_terminal(int descriptor);
/// True for such a terminal whose user has not asked for text without colours (NO_COLOR, no-color.org).
bool wants_colour(int descriptor);
/// The width of the terminal as it is now; 80 where it does not say.
std::size_t terminal_columns(int descriptor);

}  // namespace faq
