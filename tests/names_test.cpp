#include "data/names.h"

#include "tests/data_testing.h"
#include "tests/tar_writer.h"

using namespace faq;
using namespace faq::testing;

namespace {

std::string png() { return file_bytes(fixture("rgb.png")); }

DatasetOptions options_of(const fs::path& path) { return {.path = path}; }

// The notes of a data set as one text.
std::string notes_of(const Dataset& dataset) {
  std::string all;
  for (const std::string& note : dataset.notes()) all += note + "\n";
  return all;
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_CASE("what file systems and desktops leave is no class and no image", "[names]") {
  const char* clutter[] = {".hidden",        ".DS_Store",     "a/.git/b.png",  "__MACOSX/cat/._1.png",
                           "@eaDir/1.png",   "lost+found",    "cat/Thumbs.db", "desktop.ini",
                           "#recycle/1.png", "$RECYCLE.BIN/", "cat/._1.jpg"};
  for (const char* path : clutter) {
    INFO(path);
    CHECK(is_clutter(path));
  }
  for (const char* path :
       {"cat/1.png", "./cat/1.png", "../cat/1.png", "a.b/c.png", "lost", "MACOSX/1.png", ""}) {
    INFO(path);
    CHECK_FALSE(is_clutter(path));
  }
}

TEST_CASE("classes in the order of their names, or of their numbers", "[names]") {
  struct Row {
    std::vector<std::string> natural;  // in that order
    bool noted;                        // when they come by name
  };
  const Row rows[] = {
      {{"0", "1", "2", "9", "10", "11"}, true},
      {{"1", "2", "3"}, false},
      {{"01", "02", "10"}, false},
      {{"0", "00", "1", "01", "2"}, false},
      {{"a2", "a10", "b1"}, false},
      {{"n01440764", "n02102040"}, false},
      {{"9", "10", "x"}, false},
      {{"99999999999999999999998", "99999999999999999999999", "100000000000000000000000"}, true},
  };
  for (const Row& row : rows) {
    INFO(row.natural.front() << " " << row.natural.back());
    std::vector<std::string> names(row.natural.rbegin(), row.natural.rend());
    sort_classes(names, ClassOrder::natural);
    CHECK(names == row.natural);
    CHECK(note_on_order(names).empty());
    sort_classes(names, ClassOrder::name);
    CHECK(std::ranges::is_sorted(names));
    CHECK(note_on_order(names).empty() == (!row.noted));
  }
}

TEST_CASE("class folders with numbers", "[names]") {
  const TemporaryFolder folder;
  for (const char* split : {"train", "val"})
    for (int i = 0; i < 12; ++i) write_file(folder / split / std::to_string(i) / "1.png", png());
  DatasetOptions options = options_of(folder.path());
  const auto by_name = open_dataset(options, Split::val);
  CHECK(by_name->class_names()[2] == "10");
  CHECK(has(notes_of(*by_name), "0, 1, 10, 11"));
  options.class_order = ClassOrder::natural;
  const auto natural = open_dataset(options, Split::val);
  CHECK(natural->class_names()[2] == "2");
  CHECK(natural->class_names()[11] == "11");
  CHECK(natural->name(11).ends_with("val/11/1.png"));
  CHECK(natural->label(11) == 11);
  CHECK(notes_of(*natural).empty());
}

TEST_CASE("images of kinds that are not read are named before a run, or left out", "[names]") {
  for (const bool packed : {false, true}) {
    CAPTURE(packed);
    const TemporaryFolder folder;
    const std::vector<std::pair<std::string, std::string>> files{
        {"cat/a.webp", "RIFF"}, {"cat/b.BMP", "BM"},    {"cat/c.gif", "GIF89a"},
        {"cat/d.tiff", ""},     {"cat/e.png", png()},   {"cat/f.webp", png()},  // a PNG by another name
        {"cat/notes.txt", "x"}, {"cat/Thumbs.db", "x"}, {"__MACOSX/cat/._e.png", "x"}};
    std::vector<TarEntry> entries;
    for (const auto& [name, bytes] : files) {
      if (!packed) write_file(folder / "train" / name, bytes);
      if (!bytes.empty()) entries.push_back({name, bytes});
    }
    if (packed) write_file(folder / "train" / "0.tar", tar(entries));
    const std::string count = packed ? "3" : "4";
    DatasetOptions options = options_of(folder.path());
    check_error(ErrorKind::bad_data, count + " images of kinds that are not read (JPEG and PNG are)",
                [&] { open_dataset(options, Split::train); });
    check_error(ErrorKind::bad_data, "cat/a.webp", [&] { open_dataset(options, Split::train); });
    options.skip_bad = 2;
    check_error(ErrorKind::bad_data, "`skip_bad` " + count, [&] { open_dataset(options, Split::train); });
    options.skip_bad = 4;
    const auto dataset = open_dataset(options, Split::train);
    CHECK(dataset->class_names() == std::vector<std::string>{"cat"});
    REQUIRE(dataset->size() == 2);
    CHECK(dataset->name(1).ends_with("cat/f.webp"));
    check_equal(dataset->image(1), read_pnm(fixture("rgb.png.ppm")));
    CHECK(has(notes_of(*dataset), "warning: skipped " + count));
  }
}

TEST_CASE("classes without images, when they are allowed", "[names]") {
  const TemporaryFolder folder;
  for (const char* name : {"train/a", "train/c", "val/a", "val/b"})
    write_file(folder / name / "1.png", png());
  fs::create_directories(folder / "train/b");
  DatasetOptions options = options_of(folder.path());
  check_error(ErrorKind::bad_data, "train/b: expected images (.jpg, .jpeg or .png), found none",
              [&] { open_dataset(options, Split::train); });
  check_error(ErrorKind::bad_data, "class c is missing", [&] { open_dataset(options, Split::val); });
  options.allow_empty_classes = true;
  for (const Split split : {Split::train, Split::val}) {
    const auto dataset = open_dataset(options, split);
    CHECK(dataset->class_names() == std::vector<std::string>{"a", "b", "c"});
    CHECK(dataset->size() == 2);
    CHECK(dataset->label(1) == (split == Split::train ? 2 : 1));
  }
  write_file(folder / "val/d/1.png", png());
  check_error(ErrorKind::bad_data, "class d is not one of them", [&] { open_dataset(options, Split::val); });
  for (const char* name : {"train/a", "train/c"}) fs::remove(folder / name / "1.png");
  check_error(ErrorKind::bad_data, "no images in 3 classes", [&] { open_dataset(options, Split::train); });
}

TEST_CASE("shards as WebDataset writes them", "[names]") {
  const TemporaryFolder folder;
  write_file(folder / "train" / "0.tar", tar({{"000.cls", "2\n"},
                                              {"000.jpg", file_bytes(fixture("rgb444.jpg"))},
                                              {"a/001.png", png()},
                                              {"a/001.cls", "10"},
                                              {"a/001.json", "{}"}}));
  write_file(folder / "train" / "1.tar", tar({{"002.seg.png", png()}, {"002.cls", "0"}}));
  const auto numbers = open_dataset(options_of(folder.path()), Split::train);
  REQUIRE(numbers->size() == 3);
  CHECK(numbers->class_names().size() == 11);
  CHECK(numbers->class_names()[10] == "10");
  CHECK(std::vector{numbers->label(0), numbers->label(1), numbers->label(2)} == std::vector{2, 10, 0});
  check_equal(numbers->image(1), read_pnm(fixture("rgb.png.ppm")));
  CHECK(has(notes_of(*numbers), "1 members that are neither image nor .cls are not used"));
  CHECK_FALSE(has(notes_of(*numbers), "class order"));

  struct Row {
    std::vector<TarEntry> members;
    const char* refused;  // null: it is read
  };
  const Row rows[] = {
      {{{"1.png", png()}, {"1.cls", "dog"}, {"2.png", png()}, {"2.cls", "cat"}}, nullptr},
      {{{"1.png", png()}, {"1.cls", "dog"}, {"2.png", png()}},
       "'2.png' has no class: expected a member '2.cls'"},
      {{{"1.png", png()}, {"1.cls", " \n"}}, "expected the number or the name of a class, found nothing"},
      {{{"1.png", png()}, {"1.cls", std::string("a\0b", 3)}}, "found control characters"},
      {{{"1.png", png()}, {"1.cls", std::string(300, 'x')}}, "300 bytes, expected 1 to 256"},
      {{{"1.cls", "3"}}, "no images"},
  };
  for (const Row& row : rows) {
    INFO((row.refused ? row.refused : "read"));
    write_file(folder / "names" / "train" / "0.tar", tar(row.members));
    const auto open = [&] { return open_dataset(options_of(folder / "names"), Split::train); };
    if (row.refused)
      check_error(ErrorKind::bad_data, row.refused, open);
    else
      CHECK(open()->class_names() == std::vector<std::string>{"cat", "dog"});
  }
  write_file(folder / "names" / "train" / "0.tar", tar({{"1.png", png()}, {"1.cls", "dog"}}));
  write_file(folder / "names" / "train" / "1.tar", tar({{"cat/1.png", png()}}));
  check_error(ErrorKind::bad_data, "expected one kind",
              [&] { open_dataset(options_of(folder / "names"), Split::train); });
}
