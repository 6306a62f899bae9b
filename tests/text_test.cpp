#include "core/text.h"

#include "tests/catch.h"

using namespace faq;

TEST_CASE("parts are joined, empty ones too, and split again", "[text]") {
  struct Row {
    std::vector<std::string> parts;
    std::string joined;
  };
  const Row rows[] = {{{"a"}, "a"},      {{"a", "b", "c"}, "a,b,c"}, {{"", "a"}, ",a"},
                      {{"a", ""}, "a,"}, {{"", "", ""}, ",,"},       {{""}, ""}};
  for (const Row& row : rows) {
    INFO(row.joined);
    CHECK(join(row.parts, ",") == row.joined);
    CHECK(split(row.joined) == row.parts);
  }
  CHECK(join({}) == "");
  CHECK(join({"a", "b"}) == "a, b");
}

TEST_CASE("foreign text is no markup", "[text]") {
  struct Row {
    const char *text, *markup;
  };
  const Row rows[] = {
      {"cat", "cat"},
      {"", ""},
      {"</script><!--", "&lt;/script&gt;&lt;!--"},
      {"a & b &amp;", "a &amp; b &amp;amp;"},
      {"\"quoted\" 'so'", "&quot;quoted&quot; &#39;so&#39;"},
      {"two\nlines\x1b", "two\\nlines\\x1b"},
      {"caf\xe9 café", "caf\\xe9 café"},
  };
  for (const Row& row : rows) {
    INFO(row.text);
    CHECK(markup_text(row.text) == row.markup);
  }
}

TEST_CASE("the nearest name", "[text]") {
  CHECK(nearest("resnet21", {"resnet110", "resnet20", "vgg11_bn"}) == "resnet20");
  CHECK(nearest("anything", {}) == "");
}

TEST_CASE("lists and texts of files are cut", "[text]") {
  CHECK(join_first({}, ", ", 10) == "");
  CHECK(join_first({"a", "b"}, ", ", 10) == "a, b");
  CHECK(join_first({"a long first part", "b", "c"}, ", ", 10) == "a long first part and 2 more");
  CHECK(join_first({"a", "b", "a long last part"}, ", ", 10) == "a, b and 1 more");
  CHECK(join_first(std::vector<std::string>(1'000'000, "name"), "; ", 400).size() < 450);
  CHECK(shortened("abc", 3) == "abc");
  CHECK(shortened("abcdefgh", 6) == "abc...");
  CHECK(shortened("ab\xc3\xa9\xc3\xa9\xc3\xa9", 6) == "ab...");  // never half a character
  CHECK(shortened("abcdefgh", 2) == "...");
}

TEST_CASE("patterns of names", "[text]") {
  struct Row {
    const char* pattern;
    const char* text;
    bool matches;
  };
  const Row rows[] = {{"", "", true},
                      {"", "a", false},
                      {"a", "a", true},
                      {"a", "ab", false},
                      {"*", "", true},
                      {"*", "any.thing", true},
                      {"head.*", "head.", true},
                      {"head.*", "ahead.x", false},
                      {"*.bias", "a.b.bias", true},
                      {"a?c", "abc", true},
                      {"a?c", "ac", false},
                      {"a*b*c", "axxbyyc", true},
                      {"a*b*c", "axxbyy", false},
                      {"**a", "ba", true},
                      {"x[0]", "x[0]", true}};
  for (const Row& row : rows) {
    INFO(row.pattern << " " << row.text);
    CHECK(matches(row.pattern, row.text) == row.matches);
  }
  // Many stars take no time.
  CHECK_FALSE(matches("*a*a*a*a*a*a*a*a*a*a*b", std::string(5000, 'a')));
}
