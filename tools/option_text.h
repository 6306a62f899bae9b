// What the help says of the options of a run (train/option_table.h).
#pragma once

#include <string>

namespace faq::cli {

struct OptionText {
  const char* name;  ///< the canonical one
  const char* section;
  const char* value;  ///< placeholder
  const char* help;
};
/// Throws internal for an option without a text.
const OptionText& text_of_option(const std::string& name);

/// An error text of the library with the options in place of the fields it names: "`lr_gamma` 2: …" becomes
/// "--lr-gamma 2: …".
std::string with_options(const std::string& text);

}  // namespace faq::cli
