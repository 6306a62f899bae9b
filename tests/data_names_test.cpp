#include "data/names.h"

#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

TEST_CASE("class names in either order") {
  using Names = std::vector<std::string>;
  const struct {
    const char* what;
    Names by_name, natural;
    bool noted;
  } rows[] = {
      {"numbers", {"0", "1", "10", "2"}, {"0", "1", "2", "10"}, true},
      {"numbers of as many digits", {"00", "01", "10"}, {"00", "01", "10"}, false},
      {"few numbers", {"0", "1", "2"}, {"0", "1", "2"}, false},
      {"numbers in names", {"c1", "c10", "c2"}, {"c1", "c2", "c10"}, false},
      {"leading zeros", {"002", "01", "1"}, {"01", "1", "002"}, true},
      {"larger than any integer", {"100000000000000000000000", "9"}, {"9", "100000000000000000000000"}, true},
      {"words", {"Zebra", "ant", "\xe9"}, {"Zebra", "ant", "\xe9"}, false},
      {"one begins with the other", {"a", "a1", "ab"}, {"a", "a1", "ab"}, false},
      {"synsets", {"n01440764", "n01443537"}, {"n01440764", "n01443537"}, false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    Names names(row.by_name.rbegin(), row.by_name.rend());
    sort_classes(names, ClassOrder::natural);
    CHECK(names == row.natural);
    CHECK(note_on_order(names).empty());
    sort_classes(names, ClassOrder::name);
    CHECK(names == row.by_name);
    CHECK(note_on_order(names).empty() == !row.noted);
  }
}

TEST_CASE("what a name says of a file") {
  const struct {
    const char* path;
    NamedAs kind;
    bool clutter;
  } rows[] = {
      {"a/b.JPG", NamedAs::image, false},
      {"b.jfif", NamedAs::image, false},
      {"b.Png", NamedAs::image, false},
      {"b.WebP", NamedAs::foreign, false},
      {"b.tiff", NamedAs::foreign, false},
      {"a.png/b", NamedAs::other, false},
      {"b.png.txt", NamedAs::other, false},
      {"png", NamedAs::other, false},
      {"./a/b.png", NamedAs::image, false},
      {"../b.png", NamedAs::image, false},
      {".b.png", NamedAs::image, true},
      {"a/.hidden/b.png", NamedAs::image, true},
      {"__MACOSX/a/b.png", NamedAs::image, true},
      {"a/@eaDir/b.png", NamedAs::image, true},
      {"lost+found/x", NamedAs::other, true},
      {"a/Thumbs.db", NamedAs::other, true},
      {"a/my__MACOSX/b.png", NamedAs::image, false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.path);
    CHECK(named_as(row.path) == row.kind);
    CHECK(is_clutter(row.path) == row.clutter);
  }
}
