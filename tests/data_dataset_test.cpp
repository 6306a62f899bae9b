#include "data/dataset.h"

#include <zlib.h>

#include <atomic>
#include <thread>

#include "data/decode.h"
#include "data/index_text.h"
#include "tests/data_testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

std::unique_ptr<Dataset> open(const fs::path& path, Split split, int channels = 3,
                              DatasetKind kind = DatasetKind::automatic) {
  return open_dataset({path, kind, channels}, split);
}

void put_image(const fs::path& file, const std::string& name = "rgb.png") {
  write_file(file, file_bytes(fixture(name)));
}

std::string big_endian(std::initializer_list<std::uint32_t> values) {
  std::string bytes;
  for (const std::uint32_t v : values)
    for (int shift = 24; shift >= 0; shift -= 8) bytes += static_cast<char>(v >> shift);
  return bytes;
}

std::string gzip(const std::string& bytes) {
  z_stream stream{};
  REQUIRE(::deflateInit2(&stream, 9, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
  std::string out(bytes.size() + 100, '\0');
  std::string in = bytes;
  stream.next_in = reinterpret_cast<Bytef*>(in.data());
  stream.avail_in = static_cast<uInt>(in.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = static_cast<uInt>(out.size());
  REQUIRE(::deflate(&stream, Z_FINISH) == Z_STREAM_END);
  out.resize(stream.total_out);
  ::deflateEnd(&stream);
  return out;
}

/// Three images of 2 x 2 with values 0 to 11, and their labels.
const std::string idx_images = big_endian({0x803, 3, 2, 2}) + std::string("\0\1\2\3\4\5\6\7\10\11\12\13", 12);
const std::string idx_labels = big_endian({0x801, 3}) + std::string("\7\0\11", 3);

/// A CIFAR record whose planes are filled with 1, 2 and 3 plus `value`.
std::string cifar_record(const std::string& labels, int value) {
  std::string record = labels;
  for (int c = 1; c <= 3; ++c) record += std::string(1024, static_cast<char>(value + c));
  return record;
}

void put_cifar10(const fs::path& folder) {
  for (int i = 1; i <= 5; ++i)
    write_file(
        folder / concat("data_batch_", i, ".bin"),
        cifar_record(std::string(1, static_cast<char>(i)), 10 * i) + cifar_record(std::string(1, '\0'), 100));
  write_file(folder / "test_batch.bin", cifar_record("\x09", 0));
}

}  // namespace

TEST_CASE("image folder") {
  const TemporaryFolder root;
  for (const char* split : {"train", "val"}) {
    put_image(root / split / "zebra" / "b.JPEG", "rgb420.jpg");
    put_image(root / split / "zebra" / "a.png");
    put_image(root / split / "ant" / "below" / "c.Jpg", "grey.jpg");
    write_file(root / split / "ant" / "notes.txt", "not an image");
    write_file(root / split / "ant" / ".hidden.png", "not an image either");
    write_file(root / split / ".cache" / "x.png", "");
    write_file(root / split / "README", "");
  }
  const auto train = open(root.path(), Split::train);
  CHECK(train->class_names() == std::vector<std::string>{"ant", "zebra"});
  REQUIRE(train->size() == 3);
  CHECK(train->name(0) == (root / "train/ant/below/c.Jpg").string());
  CHECK(train->name(1) == (root / "train/zebra/a.png").string());
  CHECK(train->name(2) == (root / "train/zebra/b.JPEG").string());
  CHECK(std::vector{train->label(0), train->label(1), train->label(2)} == std::vector{0, 1, 1});
  check_equal(train->image(1), read_pnm(fixture("rgb.png.ppm")));
  CHECK(train->image(0).channels == 3);
  check_equal(open(root.path(), Split::val, 1)->image(1), read_pnm(fixture("rgb.png.pgm")));
  CHECK_THROWS_AS(train->image(3), Error);
  CHECK_THROWS_AS(train->label(-1), Error);

  // Deleted after it was listed.
  fs::remove(root / "train/zebra/a.png");
  check_error(ErrorKind::bad_data, "zebra/a.png", [&] { train->image(1); });
}

TEST_CASE("image folder: which folder is which split") {
  const TemporaryFolder root;
  put_image(root / "bare/x/1.png");
  put_image(root / "only-train/train/x/1.png");
  put_image(root / "test/train/x/1.png");
  put_image(root / "test/test/x/1.png");
  put_image(root / "test/test/x/2.png");
  for (const char* split : {"valid", "validation"}) {
    put_image(root / split / "train/x/1.png");
    put_image(root / split / split / "x/1.png");
    put_image(root / split / split / "x/2.png");
    CHECK(open(root / split, Split::val)->size() == 2);
  }
  put_image(root / "capitals/Train/x/1.png");
  put_image(root / "capitals/VAL/x/1.png");
  check_error(ErrorKind::bad_data, "folder 'Train' is named like a split; expected 'train'",
              [&] { open(root / "capitals", Split::val); });
  put_image(root / "vehicles/Train/1.png");
  put_image(root / "vehicles/Bus/1.png");
  CHECK(open(root / "vehicles", Split::val)->size() == 2);
  CHECK(open(root / "bare", Split::val)->size() == 1);
  CHECK(open(root / "test", Split::val)->size() == 2);
  CHECK(open(root / "test", Split::test)->size() == 2);
  put_image(root / "test/val/x/1.png");
  CHECK(open(root / "test", Split::val)->size() == 1);
  CHECK(open(root / "test", Split::test)->size() == 2);
  put_image(root / "test/test/y/1.png");
  check_error(ErrorKind::bad_data, "test/test: expected the classes of",
              [&] { open(root / "test", Split::test); });
  for (const char* name : {"bare", "only-train"})
    check_error(ErrorKind::missing_input, "test: no such folder", [&] { open(root / name, Split::test); });
  check_error(ErrorKind::missing_input, "bare/train", [&] { open(root / "bare", Split::train); });
  check_error(ErrorKind::missing_input, "only-train/val", [&] { open(root / "only-train", Split::val); });
}

TEST_CASE("image folder: images that are not used are named") {
  const TemporaryFolder folder;
  put_image(folder / "train/cat/a.png");
  const std::string image = file_bytes(fixture("rgb.png"));
  const auto opened = [&] { return open_dataset({.path = folder.path()}, Split::train); };
  write_file(folder / "train" / "cat" / "notes.txt", "no image");
  CHECK(opened()->notes().empty());
  write_file(folder / "train" / "cat" / "b.png.bak", image);
  write_file(folder / "train" / "c.png", image);
  const auto dataset = opened();
  CHECK(dataset->size() == 1);
  REQUIRE(dataset->notes().size() == 1);
  for (const char* part : {"2 images are not used in", "b.png.bak", "c.png"}) {
    INFO(dataset->notes().front() << ": " << part);
    CHECK(dataset->notes().front().find(part) != std::string::npos);
  }
}

TEST_CASE("image folder: images of kinds that are not read are named before anything is done with them") {
  const struct {
    const char* file;
    std::string bytes;
    bool foreign;
  } rows[] = {
      {"b.webp", "RIFF", true},
      {"b.TIF", "II*", true},
      {"b.bmp", "", true},
      {"b.gif", "GIF89a", true},
      {"b.heic", "ftypheic", true},
      {"b.avif", "ftypavif", true},
      {"b.webp", file_bytes(fixture("rgb.png")), false},  // a PNG whatever its name is
      {"b.bmp", file_bytes(fixture("rgb420.jpg")), false},
  };
  for (const auto& row : rows) {
    CAPTURE(row.file, row.foreign);
    const TemporaryFolder folder;
    put_image(folder / "train/cat/a.png");
    write_file(folder / "train" / "cat" / row.file, row.bytes);
    const auto open_with = [&](std::int64_t skip_bad) {
      return open_dataset({.path = folder.path(), .skip_bad = skip_bad}, Split::train);
    };
    if (!row.foreign) {
      CHECK(open_with(0)->size() == 2);
      continue;
    }
    check_error(ErrorKind::bad_data,
                concat("1 image of a kind that is not read (JPEG and PNG are): ",
                       (folder / "train/cat" / row.file).string()),
                [&] { open_with(0); });
    const auto dataset = open_with(1);
    CHECK(dataset->size() == 1);
    REQUIRE(dataset->notes().size() == 1);
    CHECK(dataset->notes()[0].starts_with("warning: skipped 1 "));
  }
}

TEST_CASE("image folder: empty classes, when they are allowed") {
  const TemporaryFolder root;
  for (const char* name : {"a", "c"}) put_image(root / "train" / name / "1.png");
  put_image(root / "val/c/1.png");
  fs::create_directories(root / "train/b");
  const auto open_with = [&](bool allowed, Split split) {
    return open_dataset({.path = root.path(), .allow_empty_classes = allowed}, split);
  };
  check_error(ErrorKind::bad_data, "train/b: expected images", [&] { open_with(false, Split::train); });
  check_error(ErrorKind::bad_data, "class a is missing", [&] { open_with(false, Split::val); });
  const auto train = open_with(true, Split::train), val = open_with(true, Split::val);
  const std::vector<std::string> classes{"a", "b", "c"};
  CHECK(train->class_names() == classes);
  CHECK(val->class_names() == classes);
  REQUIRE(train->size() == 2);
  CHECK(train->label(0) == 0);
  CHECK(train->label(1) == 2);
  REQUIRE(val->size() == 1);
  CHECK(val->label(0) == 2);
}

TEST_CASE("image folder: the order of classes") {
  const TemporaryFolder root;
  for (int i = 0; i < 12; ++i) put_image(root / "train" / std::to_string(i) / "1.png");
  const auto open_with = [&](ClassOrder order) {
    return open_dataset({.path = root.path(), .class_order = order}, Split::train);
  };
  const auto by_name = open_with(ClassOrder::name), natural = open_with(ClassOrder::natural);
  CHECK(by_name->class_names()[2] == "10");
  REQUIRE(by_name->notes().size() == 1);
  CHECK(by_name->notes()[0].find("0, 1, 10, 11, …") != std::string::npos);
  CHECK(natural->class_names()[2] == "2");
  CHECK(natural->notes().empty());
  for (std::int32_t i = 0; i < 12; ++i) {
    CHECK(natural->label(i) == i);
    CHECK(natural->relative_name(i) == concat(i, "/1.png"));
  }
}

TEST_CASE("image folder: a flat val/ with a file that has the classes") {
  const TemporaryFolder root;
  for (const char* name : {"cat", "dog", "eel"}) put_image(root / "data/train" / name / "1.png");
  for (const char* name : {"a", "b", "c d"}) put_image(root / "data/val" / concat(name, ".png"));
  write_file(root / "data/val/.hidden.png", "");
  const auto flat = [&](const std::string& labels, bool allow_empty = false, const char* data = "data") {
    write_file(root / "labels", labels);
    return open_dataset(
        {.path = root / data, .allow_empty_classes = allow_empty, .val_labels = root / "labels"}, Split::val);
  };
  const char* forms[] = {
      "a.png eel\nc d.png cat\nb.png dog\n",
      "\xef\xbb\xbf\x62.png\tdog\r\n\r\na.png\teel\r\nc d.png\tcat",
      "a.png,eel\nb.png,dog\nc d.png,cat\n",
      "a 2\nb 1\nc d 0\n",
      "ImageId,PredictionString\na,eel 85 1 499 272 \nb,dog 1 2 3 4 eel 5 6 7 8\nc d,cat\n",
  };
  for (const char* form : forms) {
    CAPTURE(form);
    const auto val = flat(form);
    CHECK(val->class_names() == std::vector<std::string>{"cat", "dog", "eel"});
    REQUIRE(val->size() == 3);
    CHECK(val->relative_name(0) == "c d.png");
    CHECK(val->name(2) == (root / "data/val/a.png").string());
    CHECK(std::vector{val->label(0), val->label(1), val->label(2)} == std::vector{0, 1, 2});
    check_equal(val->image(0), read_pnm(fixture("rgb.png.ppm")));
  }
  CHECK(flat("a dog\nb dog\nc d dog\n", true)->label(2) == 1);
  CHECK(open_dataset({.path = root / "data", .val_labels = root / "labels"}, Split::train)->size() == 3);
  for (const char* folder : {"alone", "alone/val"}) {  // no training images, or nothing but the images
    put_image(root / "alone/val/x.png");
    CHECK(flat("x fly\n", false, folder)->class_names() == std::vector<std::string>{"fly"});
    CHECK(flat("x 1\n", true, folder)->class_names() == std::vector<std::string>{"0", "1"});
  }

  check_error(ErrorKind::bad_data, "val: expected one folder per class, found none, but images; a file",
              [&] { open(root / "data", Split::val); });
  const std::pair<const char*, const char*> refused[] = {
      {"a cat\nb dog\nc eel\n", "nothing about"},
      {"a cat\nb dog\nc d eel\ne eel\n", "3 images, the labels"},
      {"a cat\nb dog\nc d dog\n", "class 'eel' has no images"},
      {"a cat\nb dog\nc d fly\n", "class 'fly' is none of the 3"},
      {"a 0\nb 1\nc d 3\n", "class 3, there are 0 to 2"},
      {"a cat\na.png dog\na cat\n", "line 3: image 'a' occurs twice"},
      {"490\n361\n", "line 1: expected IMAGE CLASS, found '490'; tools/ilsvrc_labels.py"},
      {"\n", "no lines"},
      {"a,\n", "expected IMAGE CLASS"},
  };
  for (const auto& row : refused) {
    CAPTURE(row.first);
    check_error(ErrorKind::bad_data, row.second, [&] { flat(row.first); });
  }
  check_error(ErrorKind::bad_data, "found '?c?'", [&] {
    write_file(root / "labels", std::string("\0c\0", 3) + "\n");
    open_dataset({.path = root / "data", .val_labels = root / "labels"}, Split::val);
  });
  // A name without its extension may be that of two files: one label too few, and one without an image.
  put_image(root / "twins/val/a.png");
  put_image(root / "twins/val/a.jpg");
  check_error(ErrorKind::bad_data, "'a' is two images", [&] { flat("a cat\nghost dog\n", false, "twins"); });
  put_image(root / "data/val/more/d.png");
  check_error(ErrorKind::bad_data, "val: has the folder 'more'", [&] { flat("a cat\n"); });
  check_error(ErrorKind::usage, "`val_labels` has no effect", [&] {
    open_dataset({.path = root / "data", .kind = DatasetKind::tar, .val_labels = root / "labels"},
                 Split::val);
  });
  check_error(ErrorKind::missing_input, "absent",
              [&] { open_dataset({.path = root / "alone", .val_labels = root / "absent"}, Split::val); });
}

TEST_CASE("image folder: refused") {
  const TemporaryFolder root;
  put_image(root / "empty-class/train/x/1.png");
  fs::create_directories(root / "empty-class/train/nothing");
  fs::create_directories(root / "empty-split/train");
  for (const char* name : {"a", "b"}) put_image(root / "missing/train" / name / "1.png");
  put_image(root / "missing/val/a/1.png");
  put_image(root / "extra/train/b/1.png");
  for (const char* name : {"a", "b"}) put_image(root / "extra/val" / name / "1.png");
  put_image(root / "circle/train/x/1.png");
  fs::create_directory_symlink(root / "circle/train/x", root / "circle/train/x/again");
  fs::create_directories(root / "empty");
  write_file(root / "file", "text");
  const struct {
    const char* path;
    Split split;
    ErrorKind kind;
    const char* reason;
  } cases[] = {
      {"empty-class", Split::train, ErrorKind::bad_data, "train/nothing: expected images"},
      {"empty-split", Split::train, ErrorKind::bad_data, "expected one folder per class"},
      {"missing", Split::val, ErrorKind::bad_data, "class b is missing"},
      {"extra", Split::val, ErrorKind::bad_data, "class a is not one of them"},
      {"circle", Split::train, ErrorKind::bad_data, "nested too deeply"},
      {"empty", Split::train, ErrorKind::bad_data, "empty: not a data set"},
      {"file", Split::train, ErrorKind::bad_data, "expected a folder"},
      {"nowhere", Split::train, ErrorKind::missing_input, "nowhere"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.path);
    check_error(c.kind, c.reason, [&] { open(root / c.path, c.split); });
  }
  check_error(ErrorKind::usage, "1 or 3 channels", [&] { open(root / "missing", Split::train, 2); });

  // What is named like an image but is none is a sample, to be complained of (or skipped) like any other.
  put_image(root / "odd/train/x/1.png");
  fs::create_directories(root / "odd/train/x/2.png");
  const auto odd = open(root / "odd", Split::train);
  REQUIRE(odd->size() == 2);
  check_error(ErrorKind::bad_data, "x/2.png: expected a file", [&] { odd->image(1); });
}

TEST_CASE("image folder: one process lists it for all") {
  const struct {
    const char* folder;  // in the root
    Split split;
    DatasetKind kind;
  } rows[] = {{"splits", Split::train, DatasetKind::automatic},
              {"splits", Split::val, DatasetKind::image_folder},
              {"bare", Split::val, DatasetKind::automatic}};
  for (const auto& row : rows) {
    CAPTURE(row.folder, row.split == Split::train);
    const TemporaryFolder root;
    for (const char* split : {"splits/train", "splits/val", "bare"}) {
      put_image(root / split / "zebra" / "b.png");
      put_image(root / split / "zebra" / "below" / "c\xe9.png");  // Latin-1, not UTF-8
      put_image(root / split / "an\xe9mone" / "a.png");
    }
    const fs::path path = root / row.folder;
    OpeningTexts texts;
    const auto listed = open_dataset({.path = path, .kind = row.kind, .once = texts.record()}, row.split);
    CHECK(listed->size() == 3);
    check_equal(*listed, *open(path, row.split));
    // What has changed since is not seen, for nothing is listed again.
    put_image(fs::path(listed->name(0)).parent_path() / "0.png");
    put_image(fs::path(listed->name(0)).parent_path().parent_path() / "a new class" / "1.png");
    if (row.split == Split::val) fs::remove_all(path / "train");
    CHECK(open(path, row.split)->size() == 5);
    const auto replayed = open_dataset({.path = path, .once = texts.replay()}, row.split);
    check_equal(*replayed, *listed);
    for (std::int64_t i = 0; i < replayed->size(); ++i)
      check_equal(replayed->image(i), read_pnm(fixture("rgb.png.ppm")));
    // Elsewhere, as on another machine.
    fs::create_directories(root / "elsewhere");
    const auto elsewhere = open_dataset({.path = root / "elsewhere", .once = texts.replay()}, row.split);
    CHECK(elsewhere->size() == 3);
    check_error(ErrorKind::bad_data, "elsewhere", [&] { elsewhere->image(0); });
  }
}

TEST_CASE("what ends the search of a data set ends its opening") {
  const TemporaryFolder root;
  fs::create_directories(root / "train/nothing");
  OpeningTexts texts;
  check_error(ErrorKind::bad_data, "train/nothing: expected images",
              [&] { open_dataset({.path = root.path(), .once = texts.record()}, Split::train); });
  CHECK(texts.texts.size() == 1);  // the layout
  const Once lost = [](const auto&) -> std::string { fail(ErrorKind::io, "rank 0 is lost"); };
  check_error(ErrorKind::io, "rank 0 is lost",
              [&] { open_dataset({.path = root.path(), .once = lost}, Split::train); });
}

TEST_CASE("image folder: texts that do not describe one are refused") {
  const TemporaryFolder root;
  put_image(root / "train/x/1.png");
  OpeningTexts good;
  open_dataset({.path = root.path(), .once = good.record()}, Split::train);
  REQUIRE(good.texts.size() == 2);
  using Names = std::vector<std::string>;
  using Numbers = std::vector<std::int64_t>;
  const auto index = [](const auto&... lists) {
    IndexWriter writer;
    (writer.add(lists), ...);
    return writer.text();
  };
  const Names notes;
  const Numbers folders{1};
  CHECK(index(Names{"train"}, folders, Names{"x"}, Names{"1.png"}, Numbers{1}, notes) == good.texts[1]);
  const struct {
    const char* what;
    std::string text;
    const char* reason;
  } rows[] = {
      {"empty", "", "expected an index of the data set, got 0 bytes"},
      {"text", "train/x/1.png", "expected an index of the data set"},
      {"another type of JSON", "\x81\xa1x\x01", "expected an index of the data set"},
      {"a deep one", std::string(1 << 20, '\x91'), "expected an index of the data set"},
      {"cut", good.texts[1].substr(0, good.texts[1].size() - 1), "expected an index of the data set"},
      {"more", good.texts[1] + "x", "expected an index of the data set"},
      {"no lists", index(), "expected names as list 0 of 0"},
      {"another list", index(Names{"train"}, folders, Numbers{1}, Names{"1.png"}, Numbers{1}, notes),
       "expected names as list 2"},
      {"a list too many",
       index(Names{"train"}, folders, Names{"x"}, Names{"1.png"}, Numbers{1}, notes, Numbers{}),
       "expected 6 lists in the data set's index, got 7"},
      {"negative", index(Names{"train"}, folders, Names{"x"}, Names{"1.png"}, Numbers{-1}, notes),
       "expected an index"},
      {"class folders of a third kind",
       index(Names{"train"}, Numbers{2}, Names{"x"}, Names{"1.png"}, Numbers{1}, notes),
       "does not say whether it has class folders"},
      {"two splits", index(Names{"train", "val"}, folders, Names{"x"}, Names{"1.png"}, Numbers{1}, notes),
       "names 2 splits"},
      {"no images", index(Names{"train"}, folders, Names{}, Names{}, Numbers{}, notes), "0 images"},
      {"classes that go back",
       index(Names{"train"}, folders, Names{"w", "x"}, Names{"1.png"}, Numbers{1, 0}, notes), "1 to -1"},
      {"no end", index(Names{"train"}, folders, Names{"x"}, Names{"1.png"}, Numbers{}, notes),
       "1 classes, and where 0 end"},
      {"fewer images", index(Names{"train"}, folders, Names{"x"}, Names{"1.png"}, Numbers{2}, notes),
       "1 images, expected 2"},
      {"outside", index(Names{"train"}, folders, Names{"x"}, Names{"../../../1.png"}, Numbers{1}, notes),
       "outside"},
      {"a class outside", index(Names{"train"}, folders, Names{".."}, Names{"1.png"}, Numbers{1}, notes),
       "outside"},
      {"a split outside", index(Names{"a/../.."}, folders, Names{"x"}, Names{"1.png"}, Numbers{1}, notes),
       "outside"},
      {"absolute", index(Names{"train"}, folders, Names{"x"}, Names{"/etc/passwd"}, Numbers{1}, notes),
       "outside"},
      {"without a name", index(Names{"train"}, folders, Names{"x"}, Names{""}, Numbers{1}, notes),
       "names ''"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    OpeningTexts texts{{good.texts[0], row.text}};
    check_error(ErrorKind::bad_data, row.reason,
                [&] { open_dataset({.path = root.path(), .once = texts.replay()}, Split::train); });
  }
  const OpeningTexts other{{"zip", good.texts[1]}};
  check_error(ErrorKind::bad_data, "expected a layout of data sets, got 'zip'",
              [&] { open_dataset({.path = root.path(), .once = other.replay()}, Split::train); });
}

TEST_CASE("an index has any names and numbers") {
  const std::vector<std::vector<std::string>> names{
      {}, {""}, {"", ""}, {"a"}, {"caf\xe9", "\xff\xfe", "köter"}, std::vector<std::string>(70000, "name")};
  const std::vector<std::vector<std::int64_t>> numbers{
      {}, {0}, {1, 127, 128, 65535, 65536, 4294967296, INT64_MAX}, std::vector<std::int64_t>(70000, 300)};
  IndexWriter writer;
  for (const auto& list : names) writer.add(list);
  for (const auto& list : numbers) writer.add(list);
  IndexReader reader(writer.text(), "index");
  for (const auto& list : names) CHECK(reader.names() == list);
  for (const auto& list : numbers) CHECK(reader.numbers() == list);
  reader.expect_end();
  check_error(ErrorKind::bad_data, "index: expected names as list 10 of 10", [&] { reader.names(); });
  check_error(ErrorKind::internal, "a zero byte", [&] { writer.add({std::string("a\0b", 3)}); });
}

TEST_CASE("IDX") {
  const TemporaryFolder root;
  write_file(root / "plain/t10k-images-idx3-ubyte", idx_images);
  write_file(root / "plain/t10k-labels-idx1-ubyte", idx_labels);
  // In two gzip members, as parallel compressors write.
  write_file(root / "gz/t10k-images-idx3-ubyte.gz",
             gzip(idx_images.substr(0, 20)) + gzip(idx_images.substr(20)));
  write_file(root / "gz/t10k-labels-idx1-ubyte.gz", gzip(idx_labels));
  // As one of the sites that have copies names them.
  write_file(root / "dots/t10k-images.idx3-ubyte", idx_images);
  write_file(root / "dots/t10k-labels.idx1-ubyte", idx_labels);
  for (const char* folder : {"plain", "gz", "dots"}) {
    const auto grey = open(root / folder, Split::val, 1), rgb = open(root / folder, Split::val, 3);
    REQUIRE(grey->size() == 3);
    check_equal(grey->image(1), Image{2, 2, 1, {4, 5, 6, 7}});
    check_equal(rgb->image(0), Image{2, 2, 3, {0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3}});
    CHECK(std::vector{grey->label(0), grey->label(1), grey->label(2)} == std::vector{7, 0, 9});
    CHECK(grey->class_names().size() == 10);
    CHECK(grey->class_names()[9] == "9");
    CHECK(grey->in_memory());
    CHECK_THROWS_AS(grey->image(3), Error);
    check_error(ErrorKind::missing_input, "train-images-idx3-ubyte",
                [&] { open(root / folder, Split::train); });
  }
}

TEST_CASE("IDX: refused") {
  const std::string zipped = gzip(idx_images);
  std::string flipped = zipped;
  flipped[flipped.size() - 6] ^= 1;  // of the checksum
  const struct {
    const char* what;
    std::string images, labels;
    const char* reason;
  } cases[] = {
      {"empty", "", idx_labels, "truncated"},
      {"text", "once upon a time", idx_labels, "magic number"},
      {"labels for images", idx_labels, idx_labels, "magic number"},
      {"images for labels", idx_images, idx_images, "magic number"},
      {"floats", big_endian({0xD03, 3, 2, 2}) + std::string(48, '\0'), idx_labels, "magic number"},
      {"little-endian", std::string("\3\10\0\0\3\0\0\0", 8), idx_labels, "magic number"},
      {"truncated", idx_images.substr(0, idx_images.size() - 1), idx_labels, "truncated"},
      {"truncated header", idx_images.substr(0, 9), idx_labels, "truncated"},
      {"trailing", idx_images + "x", idx_labels, "bytes after the last value"},
      {"no images", big_endian({0x803, 0, 2, 2}), idx_labels, "dimension 0 is zero"},
      {"absurd", big_endian({0x803, 0xFFFFFFFF, 0xFFFFFFFF, 0xFFFFFFFF}) + "x", idx_labels, "absurd"},
      {"absurd, gzipped", gzip(big_endian({0x803, 60000, 65535, 65535})), idx_labels, "absurd"},
      {"truncated gzip", zipped.substr(0, zipped.size() - 1), idx_labels, "truncated"},
      {"half a gzip", zipped.substr(0, zipped.size() / 2), idx_labels, "truncated"},
      {"wrong checksum", flipped, idx_labels, "corrupt gzip"},
      {"after gzip", zipped + "x", idx_labels, "bytes after the end of the gzip"},
      {"trailing in gzip", gzip(idx_images + "x"), idx_labels, "bytes after the last value"},
      {"a label far off", idx_images, big_endian({0x801, 3}) + std::string("\1\2\xC8", 3),
       "198 of the classes 0 to 200 have no images"},
      {"fewer labels", idx_images, big_endian({0x801, 2}) + std::string("\1\2", 2), "expected 3 labels"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.what);
    const TemporaryFolder root;
    write_file(root / "t10k-images-idx3-ubyte", c.images);
    write_file(root / "t10k-labels-idx1-ubyte", c.labels);
    check_error(ErrorKind::bad_data, c.reason, [&] { open(root.path(), Split::val); });
    check_error(ErrorKind::bad_data, root.path().string(), [&] { open(root.path(), Split::val); });
  }
  // Cut anywhere, changed anywhere: an error of the data, or a data set.
  for (const std::string& whole : {idx_images, zipped})
    for (std::size_t i = 0; i < whole.size(); ++i) {
      const TemporaryFolder root;
      write_file(root / "t10k-labels-idx1-ubyte", idx_labels);
      write_file(root / "t10k-images-idx3-ubyte", whole.substr(0, i));
      const auto cut = error_of([&] { open(root.path(), Split::val); });
      if (!cut || cut->kind() != ErrorKind::bad_data) FAIL("not refused: " << i);
      std::string changed = whole;
      changed[i] ^= static_cast<char>(0x90);
      write_file(root / "t10k-images-idx3-ubyte", changed);
      const auto error = error_of([&] { open(root.path(), Split::val); });
      if (error && error->kind() != ErrorKind::bad_data) FAIL(error->what());
    }
}

TEST_CASE("CIFAR") {
  const TemporaryFolder root;
  put_cifar10(root / "10");
  write_file(root / "10/batches.meta.txt",
             "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\r\n\n");
  const auto train = open(root / "10", Split::train), grey = open(root / "10", Split::val, 1);
  REQUIRE(train->size() == 10);
  CHECK(train->label(2) == 2);
  CHECK(train->label(3) == 0);
  CHECK(train->class_names()[9] == "truck");
  const Image image = train->image(4);
  CHECK((image.height == 32 && image.width == 32 && image.pixels.size() == 3072));
  CHECK(std::vector<int>(image.pixels.begin(), image.pixels.begin() + 4) == std::vector<int>{31, 32, 33, 31});
  CHECK(grey->label(0) == 9);
  CHECK(grey->image(0).pixels[0] == 2);

  write_file(root / "100/train.bin", cifar_record(std::string("\x13\x63", 2), 5));
  write_file(root / "100/test.bin", cifar_record(std::string("\x00\x01", 2), 5));
  CHECK(open(root / "100", Split::train)->label(0) == 99);
  CHECK(open(root / "100", Split::val)->class_names().size() == 100);

  // The folder in which the archives were unpacked.
  fs::create_directories(root / "unpacked");
  fs::rename(root / "10", root / "unpacked/cifar-10-batches-bin");
  CHECK(open(root / "unpacked", Split::train)->class_names()[9] == "truck");
  write_file(root / "other/cifar-100-binary/test.bin", cifar_record(std::string("\x00\x01", 2), 5));
  CHECK(open(root / "other", Split::test)->size() == 1);
}

TEST_CASE("CIFAR: refused") {
  const struct {
    const char* file;
    std::string bytes;
    const char* reason;
  } cases[] = {
      {"data_batch_3.bin", "", "found 0 bytes"},
      {"data_batch_3.bin", cifar_record("\x01", 0).substr(1), "records of 3073 bytes, found 3072 bytes"},
      {"data_batch_3.bin", cifar_record("\x01", 0) + "x", "found 3074 bytes"},
      {"data_batch_3.bin", cifar_record("\x01", 0) + cifar_record("\x0A", 0),
       "record 1: expected a label below 10, found 10"},
      {"batches.meta.txt", "cat\ndog\n", "expected 10 class names, found 2"},
  };
  for (const auto& c : cases) {
    const TemporaryFolder root;
    put_cifar10(root.path());
    write_file(root / c.file, c.bytes);
    check_error(ErrorKind::bad_data, c.reason, [&] { open(root.path(), Split::train); });
  }
  const TemporaryFolder root;
  put_cifar10(root.path());
  for (const char* folder : {"above/cifar-10-batches-py", "beside"}) {
    for (const char* name : {"data_batch_1", "batches.meta"}) write_file(root / folder / name, "pickled");
    check_error(ErrorKind::bad_data, "data_batch_1: CIFAR's files for Python; expected the binary version",
                [&] { open(root / fs::path(folder).begin()->string(), Split::train); });
  }
  fs::remove(root / "data_batch_4.bin");
  check_error(ErrorKind::missing_input, "data_batch_4.bin", [&] { open(root.path(), Split::train); });
  write_file(root / "100/train.bin", cifar_record(std::string("\x14\x00", 2), 5));
  check_error(ErrorKind::bad_data, "expected a label below 20, found 20",
              [&] { open(root / "100", Split::train); });
  fs::create_directories(root / "none");
  const struct {
    DatasetKind kind;
    ErrorKind error;
  } kinds[] = {{DatasetKind::cifar, ErrorKind::bad_data},
               {DatasetKind::idx, ErrorKind::missing_input},
               {DatasetKind::image_folder, ErrorKind::missing_input}};
  for (const auto& c : kinds)
    check_error(c.error, "none", [&] { open(root / "none", Split::train, 3, c.kind); });
}

namespace {

/// Counts how often it is asked; image i is one pixel of value i (mod 256), or `bytes` of them.
class Counting final : public Dataset {
 public:
  Counting(std::int64_t size, int width, std::atomic<int>& count)
      : size_(size), width_(width), count_(count) {}
  std::int64_t size() const override { return size_; }
  Image image(std::int64_t index) const override {
    ++count_;
    if (index == 13) fail(ErrorKind::bad_data, "thirteen");
    return {1, width_, 1,
            std::vector<std::uint8_t>(static_cast<std::size_t>(width_), static_cast<std::uint8_t>(index))};
  }
  std::int32_t label(std::int64_t index) const override { return static_cast<std::int32_t>(index); }
  std::string name(std::int64_t index) const override { return std::to_string(index); }
  const std::vector<std::string>& class_names() const override { return names_; }
  int channels() const override { return 1; }

 private:
  std::int64_t size_;
  int width_;
  std::atomic<int>& count_;
  std::vector<std::string> names_;
};

}  // namespace

TEST_CASE("a data set with some of the classes of another one") {
  const TemporaryFolder root;
  for (const char* name : {"b", "c"}) put_image(root / name / "1.png");
  const std::vector<std::string> all{"c", "a", "b"};
  const auto numbered = with_classes(open(root.path(), Split::val), all);
  CHECK(numbered->class_names() == all);
  REQUIRE(numbered->size() == 2);
  CHECK(numbered->label(0) == 2);
  CHECK(numbered->label(1) == 0);
  CHECK(numbered->relative_name(0) == "b/1.png");
  check_equal(numbered->image(1), open(root.path(), Split::val)->image(1));
  check_error(ErrorKind::bad_data, "class 'c' is none of the 2", [&] {
    with_classes(open(root.path(), Split::val), {"a", "b"});
  });
  check_error(ErrorKind::bad_data, "twice", [&] {
    with_classes(open(root.path(), Split::val), {"b", "c", "b"});
  });
}

TEST_CASE("cached") {
  std::atomic<int> count = 0;
  const auto read_all = [](const Dataset& dataset) {
    for (std::int64_t i = 0; i < dataset.size(); ++i) {
      if (i == 13) {
        CHECK_THROWS_AS(dataset.image(i), Error);
        continue;
      }
      if (dataset.image(i).pixels[0] != static_cast<std::uint8_t>(i)) FAIL("image " << i);
    }
  };
  const auto fits = cached(std::make_unique<Counting>(1000, 100, count), 1000 * 200);
  read_all(*fits);
  CHECK(count == 1000);
  read_all(*fits);
  CHECK(count == 1001);  // the bad one again
  CHECK(fits->label(7) == 7);

  count = 0;
  const auto too_large = cached(std::make_unique<Counting>(1000, 1000, count), 500 * 1000);
  read_all(*too_large);
  read_all(*too_large);
  CHECK(count > 1900);  // gave up early, so that hardly anything is saved
}

TEST_CASE("cached, from many threads") {
  std::atomic<int> count = 0;
  for (const std::size_t budget : {std::size_t{1} << 30, std::size_t{30000}}) {
    const auto dataset = cached(std::make_unique<Counting>(300, 100, count), budget);
    std::atomic<int> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::int64_t i = 0; i < 1200; ++i)
          if (i % 300 != 13 && dataset->image(i % 300).pixels[99] != static_cast<std::uint8_t>(i % 300))
            ++wrong;
      });
    for (std::thread& thread : threads) thread.join();
    CHECK(wrong == 0);
  }
}

TEST_CASE("CIFAR-10 as it is distributed", "[data]") {
  const auto folder = real_data("cifar10");
  if (!folder) return;
  const auto train = open(*folder, Split::train), val = open(*folder, Split::val);
  CHECK(train->class_names().size() == 10);
  CHECK(train->class_names() == val->class_names());
  CHECK(train->image(train->size() - 1).pixels.size() == 3072);
}

TEST_CASE("photographs in folders", "[data]") {
  const auto folder = real_data("imagenet-sample");
  if (!folder) return;
  CHECK(open(*folder, Split::val)->size() > 0);
}

// The Debian package dataset-fashion-mnist, which tools/install_deps.sh brings.
TEST_CASE("Fashion-MNIST as it is distributed", "[dataset]") {
  const auto folder = data_in("/usr/share/datasets/fashion-mnist");
  if (!folder) return;
  const auto val = open(*folder, Split::val, 1);
  CHECK(val->size() == 10000);
  CHECK(val->class_names()[9] == "Ankle boot");
  CHECK(val->label(0) == 9);
}
