#include "quant/deploy/c_text.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <iterator>

#include "core/error.h"

namespace faq {
namespace {

constexpr std::size_t longest_line = 110;
// A longer array is a string literal. C99 promises 4095 bytes of one only, but compilers need little for it:
// GCC 12 a twentieth of the time and a fifth of the memory of as many numbers, 2 GB for a hundred megabytes.
constexpr std::size_t most_numbers = 1 << 16;

// Adds a byte as it stands in a string literal: itself, or three octal digits, which no digit behind them can
// extend.
void append_escaped(unsigned char byte, std::string& text) {
  static constexpr char octal[] = "01234567";
  // A question mark is escaped because two of them may begin a trigraph.
  if (byte >= ' ' && byte < 127 && byte != '"' && byte != '\\' && byte != '?')
    text += static_cast<char>(byte);
  else
    text += {'\\', octal[byte >> 6], octal[byte >> 3 & 7], octal[byte & 7]};
}

}  // namespace

bool is_c_identifier(const std::string& name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto is_part = [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); };
  return !name.empty() && name.size() <= 40 && is_letter(name[0]) && std::ranges::all_of(name, is_part);
}

std::string c_comment(const std::string& text) {
  std::string result;
  for (const char c : text) result += (c >= ' ' && c <= '~' && c != '*') ? c : '.';
  return result;
}

std::string c_string(const std::string& text) {
  std::string result = "\"";
  for (const char c : text) append_escaped(static_cast<unsigned char>(c), result);
  return result + '"';
}

std::string c_float(float value) {
  std::array<char, 40> text{};
  std::snprintf(text.data(), text.size(), "%af", static_cast<double>(value));
  return text.data();
}

std::string c_braces(const CFields& fields) {
  std::string text = "{";
  for (const auto& [name, value] : fields)
    text += concat(text.size() > 1 ? ", " : "", ".", name, " = ", value);
  return text + "}";
}

std::string CTables::array(const std::string& name, std::span<const std::uint8_t> values) {
  if (values.size() > most_numbers) return literal(name, values);
  return numbers("uint8_t", name, values, [](int value) { return std::to_string(value); });
}

std::string CTables::array(const std::string& name, std::span<const std::int32_t> values) {
  return numbers("int32_t", name, values, [](std::int32_t value) { return std::to_string(value); });
}

std::string CTables::array(const std::string& name, std::span<const std::int64_t> values) {
  return numbers("int64_t", name, values, [](std::int64_t value) { return concat("INT64_C(", value, ")"); });
}

std::string CTables::array(const std::string& name, std::span<const float> values) {
  return numbers("float", name, values, c_float);
}

std::string CTables::structure(const std::string& type, const std::string& name, const CFields& fields) {
  text_ += concat("static const struct ", type, " ", name, " = ", c_braces(fields), ";\n\n");
  return "&" + name;
}

template <class Value, class Text>
std::string CTables::numbers(const char* type, const std::string& name, std::span<const Value> values,
                             Text text_of) {
  begin_array(type, name, values.size());
  text_ += " {";
  std::size_t length = longest_line;
  for (const Value value : values) {
    const std::string text = text_of(value);
    if (length + text.size() > longest_line) text_ += "\n    ", length = 0;
    text_ += text;
    text_ += ',';
    length += text.size() + 1;
  }
  text_ += "\n};\n";
  array_bytes_ += static_cast<std::int64_t>(values.size_bytes());
  return name;
}

std::string CTables::literal(const std::string& name, std::span<const std::uint8_t> values) {
  // One more: the zero that ends a literal.
  begin_array("uint8_t", name, values.size() + 1);
  has_literals_ = true;
  text_ += "\n    \"";
  std::size_t line = text_.size();
  for (const std::uint8_t value : values) {
    if (text_.size() - line >= longest_line) {
      text_ += "\"\n    \"";
      line = text_.size();
    }
    append_escaped(value, text_);
  }
  text_ += "\";\n";
  array_bytes_ += std::ssize(values) + 1;
  return name;
}

void CTables::begin_array(const char* type, const std::string& name, std::size_t size) {
  text_ += concat("static ", mark_, " const ", type, " ", name, "[", size, "] =");
}

}  // namespace faq
