#include "core/printable.h"

#include <cstdint>

#include "core/error.h"

namespace faq {
namespace {

struct Character {
  std::size_t bytes = 0;  ///< 0: the text does not start with a character of UTF-8
  std::uint32_t code = 0;
};

Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  struct Form {
    unsigned char mask, lead;
    std::size_t bytes;
    std::uint32_t least;  ///< a smaller code has a shorter form
  };
  static constexpr Form forms[] = {
      {0x80, 0x00, 1, 0}, {0xE0, 0xC0, 2, 0x80}, {0xF0, 0xE0, 3, 0x800}, {0xF8, 0xF0, 4, 0x10000}};
  for (const Form& form : forms) {
    if ((byte(0) & form.mask) != form.lead) continue;
    if (text.size() < form.bytes) return {};
    std::uint32_t code = byte(0) & static_cast<unsigned char>(~form.mask);
    for (std::size_t i = 1; i < form.bytes; ++i) {
      if ((byte(i) & 0xC0) != 0x80) return {};
      code = code << 6 | (byte(i) & 0x3Fu);
    }
    const bool surrogate = code >= 0xD800 && code < 0xE000;
    if (code < form.least || code > 0x10FFFF || surrogate) return {};
    return {form.bytes, code};
  }
  return {};
}

bool is_control(std::uint32_t code) {
  struct Range {
    std::uint32_t first, last;
  };
  // C0, DEL and C1; marks and overrides of direction; line and paragraph separators; isolates; the mark of
  // the byte order.
  static constexpr Range ranges[] = {{0x00, 0x1F},     {0x7F, 0x9F},     {0x200B, 0x200F},
                                     {0x2028, 0x202E}, {0x2060, 0x206F}, {0xFEFF, 0xFEFF}};
  for (const Range& range : ranges)
    if (code >= range.first && code <= range.last) return true;
  return false;
}

std::string hex(std::uint32_t value, int digits) {
  static constexpr char names[] = "0123456789abcdef";
  std::string text;
  for (int digit = digits - 1; digit >= 0; --digit) text += names[value >> 4 * digit & 15];
  return text;
}

std::string escaped(std::uint32_t code) {
  switch (code) {
    case '\n':
      return "\\n";
    case '\r':
      return "\\r";
    case '\t':
      return "\\t";
    default:
      return code < 0x80 ? "\\x" + hex(code, 2) : "\\u{" + hex(code, 4) + "}";
  }
}

bool inside_character(const std::string& text, std::size_t at) {
  return at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const Character next = first_character(text);
    if (next.bytes == 0)
      out += "\\x" + hex(static_cast<unsigned char>(text[0]), 2);
    else if (is_control(next.code))
      out += escaped(next.code);
    else
      out += text.substr(0, next.bytes);
    text.remove_prefix(next.bytes == 0 ? 1 : next.bytes);
  }
  return out;
}

std::string printable(std::string_view text, std::size_t longest) {
  const std::string all = printable(text);
  if (all.size() <= longest) return all;
  const std::string gap = concat(" [", all.size() - longest, " bytes more] ");
  const std::size_t room = longest > gap.size() ? longest - gap.size() : 0;
  std::size_t head = room * 3 / 5, tail = all.size() - (room - head);
  while (head > 0 && inside_character(all, head)) --head;
  while (inside_character(all, tail)) ++tail;
  return all.substr(0, head) + gap + all.substr(tail);
}

}  // namespace faq
