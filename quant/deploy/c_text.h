// Values and constants as C99 writes them.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace faq {

/// True for what files and functions of an export may be called: letters, digits and _, at most 40, with no
/// digit first.
bool is_c_identifier(const std::string& name);

/// Text as it stands in a comment: whatever is not printable ASCII, or could end it, is a dot.
std::string c_comment(const std::string& text);

/// Text as a string literal. No byte of it is lost, and no compiler reads a trigraph.
std::string c_string(const std::string& text);

/// An f32 without loss. Expects a finite one.
std::string c_float(float value);

/// Values of a structure by the names of its members.
using CFields = std::vector<std::pair<const char*, std::string>>;

/// {.name = value, ...}
std::string c_braces(const CFields& fields);

/// Definitions of constants, in the order in which they were added. Each function returns what refers to the
/// new constant: the name of an array, the address of a structure.
class CTables {
 public:
  /// `mark`: what arrays are declared with, beside `static` and `const`.
  explicit CTables(std::string mark) : mark_(std::move(mark)) {}

  /// A long one is a string literal.
  std::string array(const std::string& name, std::span<const std::uint8_t> values);
  std::string array(const std::string& name, std::span<const std::int32_t> values);
  std::string array(const std::string& name, std::span<const std::int64_t> values);
  std::string array(const std::string& name, std::span<const float> values);
  std::string structure(const std::string& type, const std::string& name, const CFields& fields);

  const std::string& text() const { return text_; }
  std::int64_t array_bytes() const { return array_bytes_; }
  bool has_literals() const { return has_literals_; }

 private:
  template <class Value, class Text>
  std::string numbers(const char* type, const std::string& name, std::span<const Value> values, Text text_of);
  std::string literal(const std::string& name, std::span<const std::uint8_t> values);
  void begin_array(const char* type, const std::string& name, std::size_t size);

  std::string mark_, text_;
  std::int64_t array_bytes_ = 0;
  bool has_literals_ = false;
};

}  // namespace faq
