// Tar archives as tests want them, damaged ones too.
#pragma once

#include <cstdio>
#include <string>
#include <vector>

namespace faq::testing {

struct TarEntry {
  std::string name;
  std::string bytes = {};
  char type = '0';        // '0' file, '1' hard link, '2' symbolic link, '5' folder
  std::string size = {};  // instead of the true one, as it stands in the header
  std::string link = {};
};

// POSIX.1-1988 ustar, written from its description: 512 bytes of header, contents padded to 512.
inline std::string tar_header(const TarEntry& e) {
  const auto octal = [](std::size_t value, int digits) {
    char text[32];
    std::snprintf(text, sizeof text, "%0*zo", digits, value);
    return std::string(text);
  };
  std::string h(512, '\0');
  const auto put = [&](std::size_t at, const std::string& text) { h.replace(at, text.size(), text); };
  put(0, e.name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, e.size.empty() ? octal(e.bytes.size(), 11) : e.size);
  put(136, "00000000000");
  put(148, "        ");
  h[156] = e.type;
  put(157, e.link);
  put(257, std::string("ustar\00000", 8));
  std::size_t sum = 0;
  for (const unsigned char c : h) sum += c;
  put(148, octal(sum, 6) + '\0' + ' ');
  return h;
}

inline std::string tar(const std::vector<TarEntry>& entries) {
  std::string bytes;
  for (const TarEntry& e : entries) {
    bytes += tar_header(e) + e.bytes;
    bytes.resize((bytes.size() + 511) / 512 * 512);
  }
  return bytes + std::string(1024, '\0');
}

}  // namespace faq::testing
