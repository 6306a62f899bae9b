#include <algorithm>
#include <functional>
#include <map>
#include <set>

#include "data/dataset.h"
#include "data/index_text.h"
#include "data/loader.h"
#include "tests/data_testing.h"
#include "tests/tar_writer.h"

using namespace faq;
using namespace faq::testing;

namespace {

// A pax header that gives the next member another name.
TarEntry pax_name(const std::string& name) {
  std::string record = " path=" + name + "\n";
  std::size_t length = record.size() + 2;
  while (std::to_string(length).size() + record.size() != length) ++length;
  return {"pax", std::to_string(length) + record, 'x'};
}

std::string image() { return file_bytes(fixture("rgb.png")); }

std::unique_ptr<Dataset> open(const fs::path& path, Split split, std::int64_t buffer = 8192) {
  return open_dataset({path, DatasetKind::automatic, 3, buffer}, split);
}

}  // namespace

TEST_CASE("an archive beside the folders it was unpacked to is not the data set", "[tar]") {
  const TemporaryFolder folder;
  for (const char* split : {"train", "val"}) write_file(folder / split / "cat" / "1.png", image());
  write_file(folder / "train.tar", tar({{"cat/1.png", image()}, {"cat/2.png", image()}}));
  CHECK(open(folder.path(), Split::train)->size() == 1);
  CHECK(open(folder.path(), Split::val)->size() == 1);
  fs::remove_all(folder / "train");
  fs::remove_all(folder / "val");
  CHECK(open(folder.path(), Split::train)->size() == 2);
  fs::create_directories(folder / "test");  // not one of classes
  write_file(folder / "val" / "0.tar", tar({{"cat/1.png", image()}}));
  CHECK(open(folder.path(), Split::train)->size() == 2);
  CHECK(open(folder.path(), Split::val)->size() == 1);
}

TEST_CASE("tar shards are an image folder", "[tar]") {
  const TemporaryFolder folder;
  const std::string long_name = "cat/" + std::string(150, 'x') + ".png";
  write_file(folder / "train" / "a.tar", tar({{"./", "", '5'},
                                              {"./train/dog/", "", '5'},
                                              {"./train/dog/1.png", image()},
                                              {"train/cat/2.PNG", file_bytes(fixture("rgb444.jpg"))},
                                              {"train/cat/notes.txt", "not an image"},
                                              {"train/cat/deep/3.jpg", file_bytes(fixture("grey.jpg"))}}));
  write_file(folder / "train" / "b.tar",
             tar({pax_name(long_name), {"short.png", image()}, {"bird/4.jpeg", image()}}));
  write_file(folder / "train" / "readme", "not a shard");
  write_file(folder / "val-0.tar", tar({{"dog/5.png", image()}}));

  const auto train = open(folder.path(), Split::train);
  CHECK(train->class_names() == std::vector<std::string>{"bird", "cat", "dog"});
  REQUIRE(train->size() == 5);
  const std::vector<std::string> names{"a.tar:./train/dog/1.png", "a.tar:train/cat/2.PNG",
                                       "a.tar:train/cat/deep/3.jpg", "b.tar:" + long_name,
                                       "b.tar:bird/4.jpeg"};
  const std::vector<std::int32_t> labels{2, 1, 1, 1, 0};
  const std::vector<std::string> pixels{"rgb.png.ppm", "rgb444.jpg.ppm", "grey.jpg.ppm", "rgb.png.ppm",
                                        "rgb.png.ppm"};
  for (std::int64_t i = 0; i < 5; ++i) {
    const auto n = static_cast<std::size_t>(i);
    INFO(names[n]);
    CHECK(train->name(i).ends_with(names[n]));
    CHECK(train->label(i) == labels[n]);
    // The JPEG decoders differ by a level here and there, the containers do not.
    const Image image = train->image(i), expected = read_pnm(fixture(pixels[n]));
    CHECK(image.height == expected.height);
    CHECK(image.pixels.size() == expected.pixels.size());
    if (i == 0 || i == 3) check_equal(image, expected);
  }
  CHECK_THROWS_AS(train->image(5), Error);
  CHECK(open(folder.path(), Split::val)->size() == 1);
}

TEST_CASE("names in shards are bytes, whatever the locale", "[tar]") {
  const TemporaryFolder folder;
  const std::string from_pax = "köter/ß 犬.png",
                    bare = "k\xF6ter/1.png";  // UTF-8, and Latin-1 as it was packed
  write_file(folder / "train" / "a.tar",
             tar({pax_name(from_pax), {"short.png", image()}, {bare, image()}, {"köter/2.png", image()}}));
  const auto train = open(folder.path(), Split::train);
  REQUIRE(train->size() == 3);
  CHECK(train->name(0).ends_with(":" + from_pax));
  CHECK(train->name(1).ends_with(":" + bare));
  CHECK(train->class_names() == std::vector<std::string>{"köter", "k\xEF\xBF\xBDter"});
  check_equal(train->image(0), read_pnm(fixture("rgb.png.ppm")));
  check_equal(train->image(1), read_pnm(fixture("rgb.png.ppm")));
}

TEST_CASE("one process reads the headers of shards for all", "[tar]") {
  const TemporaryFolder folder;
  write_file(folder / "train" / "a.tar",
             tar({{"dog/1.png", image()}, {"cat/notes.txt", "no image"}, {"k\xF6ter/2.png", image()}}));
  write_file(folder / "train" / "b.tar", tar({{"cat/notes.txt", "no image"}}));
  write_file(folder / "train" / "c.tar", tar({{"cat/3.png", image()}}));
  write_file(folder / "val-0.tar", tar({{"dog/5.png", image()}}));
  for (const Split split : {Split::train, Split::val}) {
    CAPTURE(split == Split::train);
    OpeningTexts texts;
    const auto indexed = open_dataset({.path = folder.path(), .once = texts.record()}, split);
    check_equal(*indexed, *open(folder.path(), split));
    CHECK(indexed->size() == (split == Split::train ? 3 : 1));
    const auto replayed = open_dataset({.path = folder.path(), .once = texts.replay()}, split);
    check_equal(*replayed, *indexed);
    for (std::int64_t i = 0; i < replayed->size(); ++i)
      check_equal(replayed->image(i), read_pnm(fixture("rgb.png.ppm")));
  }

  OpeningTexts texts;
  const auto indexed = open_dataset({.path = folder.path(), .once = texts.record()}, Split::train);
  // Nothing is listed again, and no header is read: that these are gone is seen when the first is needed.
  write_file(folder / "train" / "0.tar", "not a tar file");
  write_file(folder / "train" / "a.tar", std::string(file_bytes(folder / "train" / "a.tar").size(), 'x'));
  check_error(ErrorKind::bad_data, "0.tar", [&] { open(folder.path(), Split::train); });
  const auto replayed = open_dataset({.path = folder.path(), .once = texts.replay()}, Split::train);
  check_equal(*replayed, *indexed);
  check_error(ErrorKind::bad_data, "a.tar", [&] { replayed->image(0); });
  check_equal(replayed->image(2), read_pnm(fixture("rgb.png.ppm")));
  // A copy that ends too early, and none.
  write_file(folder / "train" / "c.tar", "short");
  check_error(ErrorKind::bad_data,
              "c.tar: ends within a member, or has changed since it was indexed: it has 5 bytes",
              [&] { open_dataset({.path = folder.path(), .once = texts.replay()}, Split::train); });
  fs::remove(folder / "train" / "c.tar");
  check_error(ErrorKind::missing_input, "c.tar: cannot be opened",
              [&] { open_dataset({.path = folder.path(), .once = texts.replay()}, Split::train); });
}

TEST_CASE("texts that do not describe tar shards are refused", "[tar]") {
  const TemporaryFolder folder;
  write_file(folder / "train" / "0.tar", tar({{"a/1.png", image()}, {"b/2.png", image()}}));
  OpeningTexts good;
  open_dataset({.path = folder.path(), .once = good.record()}, Split::train);
  REQUIRE(good.texts.size() == 2);
  using Names = std::vector<std::string>;
  using Numbers = std::vector<std::int64_t>;
  struct Lists {
    Names shards{"train/0.tar"};
    Numbers ends{2};
    Names classes{"a", "b"};
    Numbers labels{0, 1}, positions{0, 1024}, sizes{100, 100};
    Names names{"a/1.png", "b/2.png"}, notes{};
  };
  const struct {
    const char* reason;  // null: it is good
    std::function<void(Lists&)> change;
  } rows[] = {
      {nullptr, [](Lists&) {}},
      {"has 0 names, 0 labels",
       [](Lists& l) { l.names = {}, l.labels = l.positions = l.sizes = l.ends = {}; }},
      {"2 names, 1 labels", [](Lists& l) { l.labels.pop_back(); }},
      {"1 positions", [](Lists& l) { l.positions.pop_back(); }},
      {"3 sizes", [](Lists& l) { l.sizes.push_back(1); }},
      {"class 2 of 2", [](Lists& l) { l.labels[1] = 2; }},
      {"0 bytes, expected 1", [](Lists& l) { l.sizes[0] = 0; }},
      {"bytes, expected 1 to", [](Lists& l) { l.sizes[0] = INT64_MAX; }},
      {"0.tar: ends within a member", [](Lists& l) { l.positions[1] = INT64_MAX; }},
      {"0.tar: ends within a member", [](Lists& l) { l.sizes[1] = 100000; }},
      {"1 shards, and where 2 end",
       [](Lists& l) {
         l.ends = {1, 2};
       }},
      {"the members 0 to 2 of 2", [](Lists& l) { l.ends = {3}; }},
      {"2 members, in shards 1", [](Lists& l) { l.ends = {1}; }},
      {"the members 2 to 0",
       [](Lists& l) {
         l.shards.push_back("train/1.tar"), l.ends = {2, 1};
       }},
      {"outside", [](Lists& l) { l.shards[0] = "../train/0.tar"; }},
      {"outside", [](Lists& l) { l.shards[0] = "/dev/zero"; }},
      {"train: expected a file, found a folder", [](Lists& l) { l.shards[0] = "train"; }},
  };
  for (const auto& row : rows) {
    CAPTURE(row.reason);
    Lists l;
    row.change(l);
    IndexWriter index;
    index.add(l.shards);
    index.add(l.ends);
    index.add(l.classes);
    index.add(l.labels);
    index.add(l.positions);
    index.add(l.sizes);
    index.add(l.names);
    index.add(l.notes);
    const OpeningTexts texts{{good.texts[0], index.text()}};
    const auto opened = [&] {
      return open_dataset({.path = folder.path(), .once = texts.replay()}, Split::train);
    };
    if (row.reason)
      check_error(ErrorKind::bad_data, row.reason, [&] { opened(); });
    else
      CHECK(opened()->size() == 2);
  }
}

TEST_CASE("shards that cannot be read are errors of reading", "[tar]") {
  const TemporaryFolder folder;
  std::filesystem::create_directories(folder / "train");
  // A regular file whose first page cannot be read.
  std::filesystem::create_symlink("/proc/self/mem", folder / "train" / "0.tar");
  check_error(ErrorKind::io, "0.tar: reading failed: Input/output error",
              [&] { open(folder.path(), Split::train); });
}

TEST_CASE("what people's machines leave in archives is passed over, by the rule of folders", "[tar]") {
  const TemporaryFolder shards, folder;
  const char* clutter[] = {
      "cat/.hidden.png", "cat/._1.png",   "__MACOSX/cat/._1.png", "cat/@eaDir/1.png",   "lost+found/1.png",
      ".DS_Store",       "cat/Thumbs.db", "cat/.cache/1.png",     "$RECYCLE.BIN/1.png", "train/.git/1/1.png"};
  std::vector<TarEntry> entries{{"cat/1.png", image()}};
  write_file(folder / "train" / "cat" / "1.png", image());
  for (const char* name : clutter) {
    entries.push_back({name, "no image"});
    write_file(folder / "train" / name, "no image");
  }
  write_file(shards / "train" / "0.tar", tar(entries));
  fs::remove_all(folder / "train" / "train");
  for (const fs::path& path : {shards.path(), folder.path()}) {
    INFO(path);
    const auto dataset = open(path, Split::train);
    CHECK(dataset->class_names() == std::vector<std::string>{"cat"});
    CHECK(dataset->size() == 1);
    CHECK(dataset->notes().empty());
  }
}

TEST_CASE("shards as WebDataset writes them", "[tar]") {
  using Names = std::vector<std::string>;
  const struct {
    const char* what;
    std::vector<TarEntry> entries;
    const char* reason;  // null: it is good
    Names classes = {};
    std::vector<std::int32_t> labels = {};
    std::size_t notes = 0;
  } rows[] = {
      {"numbers are labels",
       {{"000.png", image()}, {"000.cls", "1"}, {"001.cls", " 0\n"}, {"001.png", image()}},
       nullptr,
       {"0", "1"},
       {1, 0}},
      {"classes without images",
       {{"000.png", image()}, {"000.cls", "11"}, {"001.cls", "2\n"}, {"001.png", image()}},
       "10 of the classes 0 to 11 have no images"},
      {"names are sorted",
       {{"a.png", image()}, {"a.cls", "dog\r\n"}, {"b.jpeg", image()}, {"b.cls", "big cat"}},
       nullptr,
       {"big cat", "dog"},
       {1, 0}},
      {"keys in folders, members beside",
       {{"./x/1.png", image()},
        {"./x/1.json", "{}"},
        {"./x/1.cls", "0"},
        {"./y/1.png", image()},
        {"./y/1.cls", "1"},
        {"./y/1.txt", "a caption"}},
       nullptr,
       {"0", "1"},
       {0, 1},
       1},
      {"an image and what belongs to it",
       {{"1.png", image()}, {"1.seg.png", image()}, {"1.cls", "0"}, {"1.depth.jpg", image()}},
       nullptr,
       {"0"},
       {0},
       1},
      {"a class, and what is called like it",
       {{"1.png", image()},
        {"1.cls", "1"},
        {"1.coarse.cls", "0"},
        {"2.fine.cls", "7"},
        {"2.png", image()},
        {"2.cls", "0"}},
       nullptr,
       {"0", "1"},
       {1, 0},
       1},
      {"zeros before numbers",
       {{"1.png", image()},
        {"1.cls", "01"},
        {"2.png", image()},
        {"2.cls", "1"},
        {"3.png", image()},
        {"3.cls", "0"}},
       nullptr,
       {"0", "1"},
       {1, 1, 0}},
      {"zeros before numbers hide no gap",
       {{"1.png", image()},
        {"1.cls", "0"},
        {"2.png", image()},
        {"2.cls", "00"},
        {"3.png", image()},
        {"3.cls", "2"}},
       "1 of the classes 0 to 2 have no images"},
      {"a member under two names",
       {{"1.png", image()}, {"./1.png", image()}, {"1.cls", "0"}},
       "occurs twice"},
      {"several images of a key", {{"1.png", image()}, {"1.jpg", image()}, {"1.cls", "0"}}, "several images"},
      {"nothing but what belongs to images", {{"1.seg.png", image()}, {"1.cls", "0"}}, "KEY.png"},
      {"no class", {{"1.png", image()}, {"2.png", image()}, {"2.cls", "0"}}, "expected a member '1.cls'"},
      {"an empty class", {{"1.png", image()}, {"1.cls", " \n"}}, "found nothing"},
      {"no text", {{"1.png", image()}, {"1.cls", std::string("\0\1", 2)}}, "found control characters"},
      {"a large one", {{"1.png", image()}, {"1.cls", std::string(300, '1')}}, "expected 1 to 256"},
      {"images of another kind", {{"1.webp", "RIFF"}, {"1.cls", "0"}}, "1 image of a kind that is not read"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    const TemporaryFolder folder;
    write_file(folder / "train" / "0.tar", tar(row.entries));
    if (row.reason) {
      check_error(ErrorKind::bad_data, row.reason, [&] { open(folder.path(), Split::train); });
      continue;
    }
    const auto dataset = open(folder.path(), Split::train);
    CHECK(dataset->class_names() == row.classes);
    REQUIRE(dataset->size() == static_cast<std::int64_t>(row.labels.size()));
    for (std::int64_t i = 0; i < dataset->size(); ++i) {
      CHECK(dataset->label(i) == row.labels[static_cast<std::size_t>(i)]);
      check_equal(dataset->image(i), read_pnm(fixture("rgb.png.ppm")));
    }
    CHECK(dataset->notes().size() == row.notes);
  }
  const TemporaryFolder gaps;
  write_file(gaps / "train" / "0.tar",
             tar({{"0.png", image()}, {"0.cls", "11"}, {"1.png", image()}, {"1.cls", "2"}}));
  const auto taken = open_dataset({.path = gaps.path(), .allow_empty_classes = true}, Split::train);
  CHECK(taken->class_names().size() == 12);
  CHECK(taken->label(0) == 11);
  write_file(gaps / "train" / "1.tar", tar({{"2.png", image()}, {"2.cls", "1000002"}}));
  check_error(ErrorKind::bad_data, "is a number wrong?",
              [&] { open_dataset({.path = gaps.path(), .allow_empty_classes = true}, Split::train); });
  const TemporaryFolder mixed;
  write_file(mixed / "train" / "0.tar", tar({{"1.png", image()}, {"1.cls", "0"}}));
  write_file(mixed / "train" / "1.tar", tar({{"cat/1.png", image()}}));
  check_error(ErrorKind::bad_data, "expected one kind", [&] { open(mixed.path(), Split::train); });
}

TEST_CASE("what follows the end of a shard is not lost without a word", "[tar]") {
  const std::string good = tar({{"a/1.png", image()}, {"a/2.png", image()}}), marker(1024, '\0');
  const std::string members = good.substr(0, good.size() - marker.size());
  const std::size_t second = members.size() / 2;
  std::string zeroed = good;
  zeroed.replace(second, 512, 512, '\0');
  const struct {
    const char* what;
    std::string bytes;
    const char* error;  // null: it is read
    std::int64_t images = 0;
    bool warns = false;
  } rows[] = {
      {"whole", good, nullptr, 2},
      {"with padding", good + std::string(9000, '\0'), nullptr, 2},
      {"half a marker", members + marker.substr(0, 512), nullptr, 2},
      {"cut between members", members.substr(0, second), nullptr, 1, true},
      {"no marker", members, nullptr, 2, true},
      {"a header of zeros", zeroed, "data follow the end of the archive"},
      {"two archives", good + good, "data follow the end of the archive"},
      {"text behind it", good + "text", "data follow the end of the archive"},
  };
  for (const auto& row : rows) {
    INFO(row.what);
    const TemporaryFolder folder;
    write_file(folder / "train" / "0.tar", row.bytes);
    if (row.error) {
      check_error(ErrorKind::bad_data, row.error, [&] { open(folder.path(), Split::train); });
      continue;
    }
    const auto dataset = open(folder.path(), Split::train);
    CHECK(dataset->size() == row.images);
    REQUIRE(dataset->notes().size() == (row.warns ? 1 : 0));
    if (row.warns) CHECK(dataset->notes()[0].starts_with("warning: "));
  }
}

TEST_CASE("shards that cannot be used are refused", "[tar]") {
  struct Row {
    const char* what;
    std::string bytes;
    const char* message;
  };
  const std::string good = tar({{"a/1.png", image()}});
  const Row rows[] = {
      {"empty", "", "not a tar file"},
      {"nothing but the end", std::string(1024, '\0'), "no images"},
      {"text", std::string(2000, 'x'), "0.tar"},
      {"no images", tar({{"a/notes.txt", "text"}}), "no images"},
      {"cut in a header", good.substr(0, 300), "0.tar"},
      {"cut in a member", good.substr(0, 600), "0.tar"},
      {"cut in the second member",
       (tar({{"a/1.png", image()}, {"a/2.png", image()}})).substr(0, good.size() - 1024 + 520), "0.tar"},
      {"no class", tar({{"1.png", image()}}), "no class folder"},
      {"only a split", tar({{"train/1.png", image()}, {"/1.png", image()}}), "points out"},
      {"out of the archive", tar({{"../a/1.png", image()}}), "points out of the archive"},
      {"out by a detour", tar({{"a/../../b/1.png", image()}}), "points out of the archive"},
      {"absolute", tar({{"/a/1.png", image()}}), "points out of the archive"},
      {"symbolic link", tar({{"a/1.png", "", '2', "", "/etc/passwd"}}), "link"},
      {"hard link", tar({{"a/0.png", image()}, {"a/1.png", "", '1', "", "a/0.png"}}), "link"},
      {"device", tar({{"a/1.png", "", '3'}}), "device"},
      {"twice", tar({{"a/1.png", image()}, {"a/1.png", image()}}), "twice"},
      {"no bytes", tar({{"a/1.png", ""}}), "0 bytes"},
      {"absurd size", tar({{"a/1.png", image(), '0', "77777777777"}}), "bytes"},
      {"negative base-256 size",
       tar({{"a/1.png", image(), '0', "\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}}), "0.tar"},
      {"huge base-256 size", tar({{"a/1.png", image(), '0', "\x80\x7F\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"}}),
       "0.tar"},
      {"wrong checksum",
       [&] {
         std::string b = good;
         b[0] = 'b';
         return b;
       }(),
       "0.tar"},
  };
  for (const Row& row : rows) {
    INFO(row.what);
    const TemporaryFolder folder;
    write_file(folder / "train" / "0.tar", row.bytes);
    check_error(ErrorKind::bad_data, row.message, [&] { open(folder.path(), Split::train); });
  }

  const TemporaryFolder folder;
  write_file(folder / "train-0.tar", good);
  const auto dataset = open(folder.path(), Split::train);
  check_error(ErrorKind::missing_input, "val", [&] { open(folder.path(), Split::val); });
  // Overwritten while it is open.
  write_file(folder / "train-0.tar", tar({{"a/1.png", image() + "more"}}));
  CHECK_THROWS_WITH(dataset->image(0), Catch::Contains("has changed"));
}

TEST_CASE("any byte of a shard may be wrong", "[tar]") {
  const TemporaryFolder folder;
  const std::string good = tar({{"a/1.png", "12345"}, {"b/2.png", "678"}});
  for (std::size_t i = 0; i < good.size(); i += i < 600 ? 1 : 7) {
    for (const int flip : {0x01, 0x80, 0xFF}) {
      std::string bad = good;
      bad[i] = static_cast<char>(bad[i] ^ flip);
      write_file(folder / "train" / "0.tar", bad);
      try {
        const auto dataset = open(folder.path(), Split::train);
        for (std::int64_t k = 0; k < dataset->size(); ++k) CHECK_THROWS_AS(dataset->image(k), Error);
      } catch (const Error& error) {
        CHECK(error.kind() == ErrorKind::bad_data);
      }
    }
  }
}

TEST_CASE("a shuffle buffer mixes within its reach", "[tar]") {
  const std::vector<std::int64_t> ends{100, 150, 400};
  for (const std::int64_t buffer : {1, 10, 1000}) {
    INFO("buffer " << buffer);
    const auto order = buffered_order(ends, buffer, 1, 2);
    REQUIRE(order.size() == 400);
    CHECK(std::set(order.begin(), order.end()).size() == 400);
    CHECK(order == buffered_order(ends, buffer, 1, 2));
    CHECK((buffer == 1 || order != buffered_order(ends, buffer, 1, 3)));
    // A sample leaves no earlier than when it was read: `buffer` places after its turn at the most before.
    const auto shards = shuffled_order(3, 1, 2);
    std::vector<std::int64_t> turn(400);
    std::int64_t next = 0;
    for (const std::int64_t s : shards)
      for (std::int64_t i = s ? ends[s - 1] : 0; i < ends[s]; ++i) turn[i] = next++;
    std::int64_t earliest = 0;
    for (std::size_t place = 0; place < order.size(); ++place)
      earliest = std::max(earliest, turn[order[place]] - static_cast<std::int64_t>(place));
    CHECK(earliest < buffer);
    CHECK((buffer == 1000 || earliest == buffer - 1));
  }
  // Everything fits: every sample is equally likely everywhere.
  int first_half = 0;
  for (int epoch = 0; epoch < 400; ++epoch) first_half += buffered_order(ends, 400, 7, epoch)[0] < 200;
  CHECK(first_half > 150);
  CHECK(first_half < 250);
  CHECK(buffered_order({}, 5, 1, 1).empty());
  CHECK_THROWS_AS(buffered_order(ends, 0, 1, 1), Error);
}

TEST_CASE("a loader reads shards as it reads folders", "[tar][loader]") {
  const TemporaryFolder packed, loose;
  std::map<int, std::vector<TarEntry>> shards;
  for (int i = 0; i < 20; ++i) {
    const std::string name = (i % 2 ? "a/" : "b/") + std::to_string(100 + i) + ".png";
    shards[i / 8].push_back({name, image()});
    write_file(loose / "train" / name, image());
  }
  for (const auto& [number, entries] : shards)
    write_file(packed / "train" / (std::to_string(number) + ".tar"), tar(entries));
  const auto from_tar = open(packed.path(), Split::train, 4), from_folder = open(loose.path(), Split::train);
  CHECK(from_tar->class_names() == from_folder->class_names());
  for (const int workers : {0, 3}) {
    LoaderOptions options;
    options.batch_size = 6;
    options.workers = workers;
    options.training = true;
    options.transform = {Augmentation::none, 8, 0};
    Loader loader(*from_tar, options);
    std::vector<std::int64_t> samples;
    loader.start_epoch(3);
    while (const auto batch = loader.next()) {
      for (std::size_t i = 0; i < batch->samples.size(); ++i)
        CHECK(batch->labels[i] == from_tar->label(batch->samples[i]));
      samples.insert(samples.end(), batch->samples.begin(), batch->samples.end());
    }
    auto order = from_tar->shuffled(0, 3);
    order.resize(18);  // the last partial batch is dropped
    CHECK(samples == order);
  }
}

TEST_CASE("shards that are packed another way are named", "[tar]") {
  const TemporaryFolder wrapped, twice, compressed, beside;
  write_file(wrapped / "train" / "0.tar", tar({{"ds/a/1.png", image()}, {"./ds/b/2.png", image()}}));
  check_error(ErrorKind::bad_data, "all images are in the folder 'ds' of 0.tar",
              [&] { open(wrapped.path(), Split::train); });
  write_file(twice / "train-0.tar", tar({{"a//1.png", image()}, {"a/1.png", image()}}));
  check_error(ErrorKind::bad_data, "occurs twice", [&] { open(twice.path(), Split::train); });
  for (const char* name : {"train/0.tar.gz", "train-0.TGZ"}) {
    CAPTURE(name);
    const TemporaryFolder folder;
    write_file(folder / name, "compressed");
    check_error(ErrorKind::bad_data, std::string(name) + ": compressed",
                [&] { open(folder.path(), Split::train); });
  }
  // Among shards that are read it would be missing from the data set.
  {
    const TemporaryFolder folder;
    write_file(folder / "train" / "0.tar", tar({{"a/1.png", image()}}));
    write_file(folder / "train" / "1.TAR", tar({{"b/2.png", image()}}));
    CHECK(open(folder.path(), Split::train)->size() == 2);
    write_file(folder / "train" / "2.tar.gz", "compressed");
    check_error(ErrorKind::bad_data, "2.tar.gz: compressed", [&] { open(folder.path(), Split::train); });
  }
  // Beside the folders that it was unpacked to it is nothing.
  write_file(beside / "train.tar.gz", "compressed");
  write_file(beside / "train" / "a" / "1.png", image());
  CHECK(open(beside.path(), Split::train)->size() == 1);
  // Validation under its other names.
  for (const char* name : {"valid/0.tar", "validation-0.tar", "test.tar"}) {
    CAPTURE(name);
    const TemporaryFolder folder;
    write_file(folder / name, tar({{"a/1.png", image()}, {"validation/b/2.png", image()}}));
    CHECK(open(folder.path(), Split::val)->class_names() == std::vector<std::string>{"a", "b"});
  }
}
