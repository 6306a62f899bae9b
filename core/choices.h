// Enumerations as text: a table of names and values.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/text.h"

namespace faq {

template <class Value>
using Choices = std::vector<std::pair<std::string, Value>>;

/// Returns the value called `text`. Throws usage, with the setting, the choices and the nearest choice.
template <class Value>
Value choose(const char* setting, const std::string& text, const Choices<Value>& choices) {
  std::vector<std::string> names;
  for (const auto& [name, value] : choices) {
    if (name == text) return value;
    names.push_back(name);
  }
  fail(ErrorKind::usage, "`", setting, "` ", text, ": expected one of ", join(names), "; did you mean '",
       nearest(text, names), "'?");
}

}  // namespace faq
