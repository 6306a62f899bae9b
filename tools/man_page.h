// The programs' man pages.
#pragma once

#include <string>

#include "tools/cli.h"

namespace faq::cli {

/// Returns the page in section 1, for man: what the program does, every option with its help, and the exit
/// codes.
std::string man_page(const Parser& parser);

}  // namespace faq::cli
