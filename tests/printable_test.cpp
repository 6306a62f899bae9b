#include "core/printable.h"

#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("foreign text becomes one line that does nothing to a terminal", "[printable]") {
  struct Row {
    std::string text, printed;
  };
  const Row rows[] = {
      {"", ""},
      {"a name.png", "a name.png"},
      {"Käse 鳥 🐦", "Käse 鳥 🐦"},
      {"two\nlines\r\tmore", "two\\nlines\\r\\tmore"},
      {"\x1b[31mred\x1b[0m\a", "\\x1b[31mred\\x1b[0m\\x07"},
      {std::string("a\0b", 3), "a\\x00b"},
      {"\x7f", "\\x7f"},
      {"\xc2\x9b"
       "2J",
       "\\u{009b}2J"},  // C1: the beginning of a command in one character
      {"gpj.\xe2\x80\xae"
       "exe",
       "gpj.\\u{202e}exe"},
      {"\xe2\x80\xa8\xef\xbb\xbf", "\\u{2028}\\u{feff}"},
      {"\xff\xfe", "\\xff\\xfe"},
      {"\xc3", "\\xc3"},                             // cut short
      {"\xc0\xaf", "\\xc0\\xaf"},                    // longer than it has to be
      {"\xed\xa0\x80", "\\xed\\xa0\\x80"},           // half of a pair
      {"\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"},  // beyond the last character
  };
  for (const Row& row : rows) {
    INFO(row.printed);
    CHECK(printable(row.text) == row.printed);
  }
}

TEST_CASE("of a long text both ends stay", "[printable]") {
  const std::string middle(100'000, 'x');
  const std::string text = printable("weights begin" + middle + "expected 3", 200);
  CHECK(text.size() <= 200);
  CHECK(text.starts_with("weights beginx"));
  CHECK(text.ends_with("xexpected 3"));
  CHECK(text.find(" bytes more] ") != std::string::npos);
  CHECK(printable(std::string(200, 'a'), 200) == std::string(200, 'a'));
  std::string birds;
  for (int i = 0; i < 1000; ++i) birds += "🐦";
  for (std::size_t longest = 40; longest < 60; ++longest) {
    const std::string cut = printable(birds, longest);
    CHECK(cut.size() <= longest);
    CHECK(printable(cut) == cut);  // no character was cut
  }
}
