// Completion of the programs' options in bash.
#pragma once

#include <string>

#include "tools/cli.h"

namespace faq::cli {

/// Returns a script for bash: a function and the command that makes it complete the program's name. It wants
/// nothing but bash 4.4. It offers the names of options; after an option the values there are, files where
/// its placeholder is FILE or IMAGE, folders where it is DIR, and small words in a placeholder (`auto|FILE`)
/// as they are.
std::string bash_completion(const Parser& parser);

}  // namespace faq::cli
