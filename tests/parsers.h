// Everything that reads files anybody may have written, in one table: for the tests, which feed it damaged
// files, and for libFuzzer (tests/fuzz.cpp).
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

namespace faq::testing {

struct Parser {
  const char* name;
  /// Throws Error for what it refuses.
  void (*parse)(const std::string& bytes);
  /// Small files that are not refused.
  std::vector<std::string> (*seeds)();
};
std::span<const Parser> parsers();

/// Parses; whether the bytes were refused, as bad data or for what it says in them. Whatever else is thrown
/// is a mistake of the parser's and is passed on.
bool refuses(const Parser& parser, const std::string& bytes);

}  // namespace faq::testing
