#include "data/decode.h"

#include <sys/stat.h>

#include <zlib.h>

#include <cstring>
#include <map>
#include <sstream>

#include "tests/data_testing.h"
#include "tests/image_files.h"
#include "tests/testing.h"

using namespace faq;
using namespace faq::testing;

namespace {

Image decode(const std::string& bytes, int channels = 3) {
  return decode_image(as_bytes(bytes), channels, "it");
}

bool exact_jpeg() { return std::string(jpeg_decoder_name()) == "libjpeg-turbo"; }

std::string fixture_bytes(const std::string& name) { return file_bytes(fixture(name)); }

/// rgb420.jpg with a byte of its frame header (offset from the marker) replaced.
std::string with_frame_byte(std::size_t offset, char value) {
  std::string bytes = fixture_bytes("rgb420.jpg");
  const std::size_t frame = bytes.find("\xFF\xC0");
  REQUIRE(frame != std::string::npos);
  bytes[frame + offset] = value;
  return bytes;
}

std::string claiming(int height, int width) {
  std::string bytes = with_frame_byte(5, static_cast<char>(height >> 8));
  const std::size_t frame = bytes.find("\xFF\xC0");
  bytes[frame + 6] = static_cast<char>(height);
  bytes[frame + 7] = static_cast<char>(width >> 8);
  bytes[frame + 8] = static_cast<char>(width);
  return bytes;
}

std::string png_claiming(std::uint32_t height, std::uint32_t width) {
  std::string bytes = fixture_bytes("rgb.png");
  for (std::size_t i = 0; i < 4; ++i) {
    bytes[16 + i] = static_cast<char>(width >> (24 - 8 * i));
    bytes[20 + i] = static_cast<char>(height >> (24 - 8 * i));
  }
  return with_checksums(bytes);
}

/// The scans of an image, its last one many times over.
std::string thousand_scans(std::string bytes) {
  const std::size_t last = bytes.rfind("\xFF\xDA");
  const std::string scan = bytes.substr(last, bytes.size() - 2 - last);
  bytes.resize(bytes.size() - 2);
  for (int i = 0; i < 1000; ++i) bytes += scan;
  return bytes + "\xFF\xD9";
}

std::string after_start(const std::string& inserted) {
  const std::string bytes = fixture_bytes("rgb420.jpg");
  return bytes.substr(0, 2) + inserted + bytes.substr(2);
}

/// The parts of a JPEG; the part `which` replaced.
std::string joined(std::vector<std::string> parts, std::size_t which = 0,
                   const std::string& by = "\xFF\xD8") {
  parts.at(which) = by;
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

std::string with_byte(std::string bytes, std::size_t at, char value) {
  bytes.at(at) = value;
  return bytes;
}

/// The byte `offset` bytes after the first `text` replaced.
std::string replaced(const std::string& bytes, const std::string& text, std::size_t offset, char value) {
  const std::size_t at = bytes.find(text);
  REQUIRE(at != std::string::npos);
  return with_byte(bytes, at + offset, value);
}

const char* const fixtures[] = {"rgb420.jpg",    "rgb422.jpg",
                                "rgb444.jpg",    "progressive.jpg",
                                "grey.jpg",      "cmyk.jpg",
                                "rgb.png",       "grey.png",
                                "bilevel.png",   "palette.png",
                                "rgba.png",      "grey16.png",
                                "rgb16.png",     "palette_transparent.png",
                                "grey_alpha.png"};

}  // namespace

TEST_CASE("decode_image equals Pillow") {
  for (const std::string name : fixtures) {
    for (const char* kind : {".ppm", ".pgm"}) {
      if (!fs::exists(fixture(name + kind))) continue;
      CAPTURE(name, kind);
      const Image expected = read_pnm(fixture(name + kind));
      const Image image = decode(fixture_bytes(name), expected.channels);
      if (exact_jpeg() || name.ends_with(".png")) {
        check_equal(image, expected);
        continue;
      }
      // Another inverse DCT and another upsampling.
      REQUIRE(image.pixels.size() == expected.pixels.size());
      double difference = 0;
      for (std::size_t i = 0; i < image.pixels.size(); ++i)
        difference += std::abs(image.pixels[i] - expected.pixels[i]);
      CHECK(difference / static_cast<double>(image.pixels.size()) < 4);
    }
  }
}

TEST_CASE("decode_image refuses every truncation") {
  for (const std::string name : fixtures) {
    CAPTURE(name);
    const std::string whole = fixture_bytes(name);
    for (std::size_t size = 0; size < whole.size(); ++size) {
      CAPTURE(size);
      // A buffer of exactly this size, so that a sanitizer sees a read beyond it.
      const std::vector<char> part(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
      const auto error = error_of([&] { decode_image(std::as_bytes(std::span(part)), 3, "it"); });
      if (!error || error->kind() != ErrorKind::bad_data) FAIL("not refused");
    }
  }
}

TEST_CASE("decode_image survives every changed byte") {
  for (const std::string name : fixtures) {
    CAPTURE(name);
    const std::string whole = fixture_bytes(name);
    for (const int mask : {0x01, 0x80, 0xFF}) {
      for (std::size_t i = 0; i < whole.size(); ++i) {
        CAPTURE(i, mask);
        std::string changed = whole;
        changed[i] = static_cast<char>(changed[i] ^ mask);
        const auto error = error_of([&] { decode(changed); });
        if (error && error->kind() != ErrorKind::bad_data) FAIL(error->what());
        // Everything in a PNG is under a checksum.
        if (!error && name.ends_with(".png")) FAIL("a corrupt PNG was accepted");
      }
    }
  }
}

TEST_CASE("decode_image refuses, and says why") {
  const struct {
    const char* what;
    std::string bytes;
    const char* reason;
  } cases[] = {
      {"empty", "", "empty file"},
      {"text", "once upon a time", "found text"},
      {"GIF", "GIF89a.....", "found a GIF image"},
      {"WebP", "RIFF\x10\x20\x30\x40WEBPVP8 ", "found a WebP image"},
      {"AVIF",
       std::string("\0\0\0\x20"
                   "ftypavif",
                   12) +
           "xx",
       "found an AVIF image"},
      {"HEIC",
       std::string("\0\0\0\x18"
                   "ftypheic",
                   12) +
           "xx",
       "found a HEIC image"},
      {"BMP", std::string("BM\x36\x10\0\0\0\0\0\0\x36\0\0\0\x28", 15), "found a BMP image"},
      {"TIFF", std::string("II*\0\x08\0\0\0", 8), "found a TIFF image"},
      {"one byte", "\xFF", "found neither"},
      {"only the start marker", "\xFF\xD8", "found neither"},
      {"the start of a segment", "\xFF\xD8\xFF", "truncated"},
      {"start and end", "\xFF\xD8\xFF\xD9", "contains no image"},
      {"junk after the start", "\xFF\xD8 hello hello", "found neither"},
      {"segment of length 1", std::string("\xFF\xD8\xFF\xE0\x00\x01\xFF\xD9", 8), "contains no image"},
      {"26000 x 26000", claiming(26000, 26000), "expected at most 100000000 pixels"},
      {"more pixels than bytes can hold", claiming(9000, 9000), "cannot be contained"},
      {"no rows", claiming(0, 23), "Empty JPEG image"},
      {"no columns", claiming(17, 0), "Empty JPEG image"},
      {"12 bits", with_frame_byte(4, 12), "12"},
      {"arithmetic-coded", jpeg_file({.arithmetic = true}), "arithmetic"},
      {"lossless", with_frame_byte(1, '\xC3'), "JPEG cannot be decoded"},
      {"two components", jpeg_file({.components = 2}), "expected 1, 3 or 4 components"},
      {"frame header too short", with_frame_byte(9, 4), "Bogus marker length"},
      {"thousand scans", thousand_scans(jpeg_file({.separate = true})), "expected at most 100 scans"},
      {"thousand scans that follow no plan", thousand_scans(fixture_bytes("progressive.jpg")),
       "Inconsistent progression"},
      {"Huffman table of 4080 codes",
       after_start("\xFF\xC4\x10\x03" + std::string(1, '\0') + std::string(4096, '\xFF')),
       "Bogus Huffman table"},
      {"Huffman table beyond its segment",
       after_start(std::string("\xFF\xC4\x00\x13", 4) + std::string(17, '\1')), "Bogus Huffman table"},
      {"huge PNG", png_claiming(26000, 26000), "expected at most 100000000 pixels"},
      {"PNG with sides of 2^32 - 1", png_claiming(0xFFFFFFFF, 0xFFFFFFFF),
       "PNG unsigned integer out of range"},
      {"PNG without rows", png_claiming(0, 23), "Image height is zero"},
      {"PNG of another size", png_claiming(23, 17 + 1), "bad adaptive filter"},
      {"PNG with a wrong checksum", with_byte(fixture_bytes("rgb.png"), 29, 'x'), "CRC error"},
      {"only the PNG signature", "\x89PNG\r\n\x1A\n", "truncated"},
  };
  for (const auto& c : cases) {
    CAPTURE(c.what);
    check_error(ErrorKind::bad_data, c.reason, [&] { decode(c.bytes); });
    check_error(ErrorKind::bad_data, "it: ", [&] { decode(c.bytes); });
  }
}

TEST_CASE("decode_image accepts what is common in practice") {
  const Image expected = decode(fixture_bytes("rgb420.jpg"));
  const struct {
    const char* what;
    std::string bytes;
  } cases[] = {
      {"bytes after the end", fixture_bytes("rgb420.jpg") + "trailing garbage"},
      {"another image after the end", fixture_bytes("rgb420.jpg") + fixture_bytes("cmyk.jpg")},
      {"broken EXIF", after_start(std::string("\xFF\xE1\x00\x0E"
                                              "Exif\0\0\xFF\xFF\xFF\xFF\xFF\xFF",
                                              16))},
      {"an end marker within a comment", after_start(std::string("\xFF\xFE\x00\x04\xFF\xD9", 6))},
      {"fill bytes before a marker", after_start("\xFF\xFF\xFF")},
  };
  for (const auto& c : cases) {
    CAPTURE(c.what);
    check_equal(decode(c.bytes), expected);
  }
  check_equal(decode(fixture_bytes("rgb.png") + "trailing garbage"), read_pnm(fixture("rgb.png.ppm")));
}

TEST_CASE("harmless damage: decoded, and said") {
  // What PIL decodes to the same pixels.
  struct Row {
    std::string what, bytes, whole, fault;
  };
  std::vector<Row> rows;
  const std::string usual = jpeg_file({}), progressive = jpeg_file({.restart = 2, .progressive = true}),
                    separate = jpeg_file({.restart = 1, .separate = true});
  for (const std::string& file : {usual, progressive, separate}) {
    const std::vector<std::string> parts = jpeg_parts(file);
    for (std::size_t stray = 2; stray < parts.size(); ++stray)
      rows.push_back({concat("stray bytes before part ", stray),
                      joined(parts, stray, std::string(99, '\0') + parts[stray]), file,
                      "extraneous bytes before marker"});
  }
  // The decoder reads a few bytes ahead, and does not notice that they belong to no block.
  const std::vector<std::string> parts_of_usual = jpeg_parts(usual);
  rows.push_back({"a stray byte before the end",
                  joined(parts_of_usual, parts_of_usual.size() - 1, "x\xFF\xD9"), usual, ""});
  const std::size_t restart = separate.find("\xFF\xD1");
  rows.push_back({"stray bytes before a restart",
                  separate.substr(0, restart) + std::string(99, '\0') + separate.substr(restart), separate,
                  "extraneous bytes before marker 0xd1"});
  rows.push_back({"version of JFIF", replaced(usual, "JFIF", 5, '\x09'), usual, "unknown JFIF revision"});
  const std::string ycck = jpeg_file({.components = 4, .color = 5});
  rows.push_back(
      {"transformation of Adobe", replaced(ycck, "Adobe", 11, '\x07'), ycck, "Unknown Adobe color"});
  rows.push_back({"a sequential scan as if progressive", replaced(usual, "\xFF\xDA", 12, '\x3E'), usual,
                  "Invalid SOS parameters"});

  const Image black{2, 3, 3, std::vector<std::uint8_t>(18)};
  const std::string png = testing::png(black);
  const std::vector<Chunk> chunks = png_chunks(png);  // IHDR IDAT IEND
  const auto with_data = [&](const std::string& data) {
    return png_file({chunks[0], {"IDAT", data}, chunks[2]});
  };
  const std::string grey = testing::png({2, 3, 1, std::vector<std::uint8_t>(6)});
  const std::vector<Chunk> grey_chunks = png_chunks(grey);
  rows.push_back({"bytes that no pixel needs", testing::png(black, 100), png, "Too much image data"});
  rows.push_back({"8 MB of them", testing::png(black, std::size_t{8} << 20), png, "Too much image data"});
  rows.push_back(
      {"bytes after the compressed ones", with_data(chunks[1].data + "abc"), png, "Extra compressed data"});
  rows.push_back({"data after the data",
                  png_file({chunks[0], chunks[1], {"tEXt", std::string("a\0b", 3)}, chunks[1], chunks[2]}),
                  png, ""});
  rows.push_back(
      {"palette after the pixels", png_file({chunks[0], chunks[1], {"PLTE", "abc"}, chunks[2]}), png, ""});
  rows.push_back({"palette of grey pixels",
                  png_file({grey_chunks[0], {"PLTE", "abc"}, grey_chunks[1], grey_chunks[2]}), grey,
                  "PLTE: ignored"});
  rows.push_back(
      {"end marker with contents", png_file({chunks[0], chunks[1], {"IEND", "abc"}}), png, "IEND: invalid"});
  for (const Row& row : rows) {
    CAPTURE(row.what);
    const Image image = decode(row.bytes);
    check_equal(image, decode(row.whole));
    CHECK(image.fault.find(row.fault) != std::string::npos);
    CHECK((!row.fault.empty() || image.fault.empty()));
    CHECK(decode(row.bytes, 1).fault == image.fault);
    CHECK(decode(row.whole).fault.empty());
  }
  // Cut between two scans: what there is, is shown, as PIL does.
  std::vector<std::string> parts = jpeg_parts(progressive);
  while (parts[parts.size() - 2][1] != '\xDA') parts.erase(parts.end() - 2);
  parts.erase(parts.end() - 2);
  CHECK(decode(joined(parts)).fault == "Progressive JPEG without its last scans");
}

TEST_CASE("damage that loses data is refused") {
  const auto png_of = [](const std::vector<Chunk>& chunks) { return png_file(chunks); };
  const std::string restarts = jpeg_file({.restart = 1}), progressive = jpeg_file({.progressive = true});
  const auto cut = [](std::vector<std::string> parts, std::size_t bytes) {
    std::string& scan = parts[parts.size() - 2];
    scan.resize(scan.size() - bytes);
    return joined(parts);
  };
  const auto without = [](const std::string& file, char marker, int which) {
    std::string all;
    for (const std::string& part : jpeg_parts(file))
      if (part[1] != marker || which-- != 0) all += part;
    return all;
  };
  const auto first_scan_of = [](const std::string& file) {
    std::string all;
    int scans = 0;
    for (const std::string& part : jpeg_parts(file))
      if (part[1] != '\xDA' || scans++ == 0) all += part;
    return all;
  };
  const std::string separate = jpeg_file({.separate = true});
  const std::size_t restart = restarts.find("\xFF\xD1");
  const Image black{2, 3, 3, std::vector<std::uint8_t>(18)};
  const std::vector<Chunk> chunks = png_chunks(testing::png(black));
  const Chunk header = chunks[0], data = chunks[1], end = chunks[2];
  std::string bad_sum = data.data;
  bad_sum.back() ^= 1;
  const struct {
    const char* what;
    std::string bytes;
    const char* reason;
  } rows[] = {
      {"scan cut by a byte", cut(jpeg_parts(jpeg_file({.quality = 100})), 4),
       "premature end of data segment"},
      {"scan cut by half", cut(jpeg_parts(jpeg_file({})), 300), "premature end of data segment"},
      {"scan of ones",
       joined(jpeg_parts(separate), 9,
              "\xFF\xDA" + std::string("\0\x08\1\1\0\0\x3F\0", 8) + std::string(99, '\xFE')),
       ""},
      {"a restart less", restarts.substr(0, restart) + restarts.substr(restart + 2), "instead of RST1"},
      {"a restart of another number", with_byte(restarts, restart + 1, '\xD5'), "instead of RST1"},
      {"a first scan less", without(progressive, '\xDA', 0), ""},
      {"the first scan alone", first_scan_of(progressive), "it is cut short"},
      {"a component less", without(separate, '\xDA', 2), "a component has no data"},
      {"no Huffman tables, progressive", without(without(progressive, '\xC4', 0), '\xC4', 0),
       "Huffman table"},
      {"no quantization tables", without(without(jpeg_file({}), '\xDB', 0), '\xDB', 0), "Quantization table"},
      {"tables only", joined({"\xFF\xD8", jpeg_parts(jpeg_file({}))[2], "\xFF\xD9"}), "contains no image"},
      {"wrong sum of the pixels", png_of({header, {"IDAT", bad_sum}, end}), "incorrect data check"},
      {"a byte of the pixels less", png_of({header, {"IDAT", deflated(std::string(19, '\0'))}, end}),
       "Not enough image data"},
      {"no pixels", png_of({header, end}), ""},
      {"no end", png_of({header, data}), "truncated"},
      {"unknown filter", png_of({header, {"IDAT", deflated(std::string(20, '\7'))}, end}),
       "bad adaptive filter"},
      {"no palette", png_of({png_header(1, 1, 8, 3), {"IDAT", deflated(std::string(2, '\0'))}, end}), "PLTE"},
      {"unknown chunk that matters", png_of({header, {"ABCD", ""}, data, end}), "unhandled critical chunk"},
      {"two headers", png_of({header, header, data, end}), ""},
      {"two palettes", png_of({header, {"PLTE", "abc"}, {"PLTE", "abc"}, data, end}), "duplicate"},
      {"depth that colours have not", png_of({png_header(2, 3, 4, 2), data, end}),
       "Invalid color type/bit depth"},
      {"interlacing of no kind", png_of({{"IHDR", header.data.substr(0, 12) + "\2"}, data, end}),
       "interlace"},
  };
  for (const auto& row : rows) {
    CAPTURE(row.what);
    check_error(ErrorKind::bad_data, row.reason, [&] { decode(row.bytes); });
  }
  // Of 273 pixels of any colours some have one of the second half of the palette.
  int palettes = 0;
  for (const ImageFile& file : odd_images()) {
    if (!file.name.starts_with("palette") || file.name.find("13x21") == std::string::npos) continue;
    CAPTURE(file.name);
    std::vector<Chunk> parts = png_chunks(file.bytes);
    REQUIRE(parts[1].type == "PLTE");
    parts[1].data.resize(parts[1].data.size() / 2 / 3 * 3);
    check_error(ErrorKind::bad_data, "a pixel of colour", [&] { decode(png_file(parts)); });
    ++palettes;
  }
  CHECK(palettes == 8);
}

TEST_CASE("an image is decoded with nothing of the image before it") {
  const std::string usual = jpeg_file({}), other = jpeg_file({.quality = 20, .optimal = true});
  std::string no_tables, no_codes;
  for (const std::string& part : jpeg_parts(usual)) {
    if (part[1] != '\xC4') no_codes += part;
    if (part[1] != '\xC4' && part[1] != '\xDB') no_tables += part;
  }
  const Image expected = decode(usual);
  for (const std::string& before : {usual, other}) {
    decode(before);
    check_error(ErrorKind::bad_data, "Quantization table", [&] { decode(no_tables); });
    decode(before);
    // As a frame of Motion JPEG: with the standard's codes, as PIL does it.
    check_equal(decode(no_codes), expected);
  }
}

TEST_CASE("decode_image equals Pillow on odd PNGs") {
  std::map<std::string, std::uint32_t>
      checksums;  // of Pillow's RGB pixels, by tools/campaigns/images.py --record
  std::istringstream in(file_bytes(fixture("odd_pngs.txt")));
  std::string name;
  for (std::uint32_t sum = 0; in >> name >> sum;) checksums[name] = sum;
  int compared = 0;
  for (const ImageFile& file : odd_images()) {
    if (!file.name.ends_with(".png")) continue;
    CAPTURE(file.name);
    const Image image = decode(file.bytes);
    CHECK(image.fault.empty());
    REQUIRE(checksums.contains(file.name));
    CHECK(::crc32(0, image.pixels.data(), static_cast<uInt>(image.pixels.size())) == checksums[file.name]);
    ++compared;
  }
  CHECK(compared > 100);
}

TEST_CASE("load_image") {
  const TemporaryFolder folder;
  write_file(folder / "png.JPEG", fixture_bytes("rgb.png"));
  write_file(folder / "jpeg.png", fixture_bytes("grey.jpg"));
  check_equal(load_image(folder / "png.JPEG", 3), read_pnm(fixture("rgb.png.ppm")));
  CHECK(load_image(folder / "jpeg.png", 1).channels == 1);

  fs::create_directories(folder / "folder.jpg");
  fs::create_symlink(folder / "nowhere", folder / "dangling.jpg");
  REQUIRE(::mkfifo((folder / "pipe.jpg").c_str(), 0600) == 0);
  write_file(folder / "empty.jpg", "");
  const struct {
    const char* file;
    ErrorKind kind;
  } cases[] = {{"missing.jpg", ErrorKind::missing_input},
               {"dangling.jpg", ErrorKind::missing_input},
               {"png.JPEG/x.jpg", ErrorKind::missing_input},
               {"folder.jpg", ErrorKind::bad_data},
               {"pipe.jpg", ErrorKind::bad_data},
               {"empty.jpg", ErrorKind::bad_data}};
  for (const auto& c : cases)
    check_error(c.kind, (folder / c.file).string(), [&] { load_image(folder / c.file, 3); });
}

TEST_CASE("decode_image on photographs", "[data]") {
  const auto folder = real_data("imagenet-sample");
  if (!folder) return;
  int count = 0;
  for (const auto& entry : fs::recursive_directory_iterator(*folder)) {
    if (!entry.is_regular_file() || count++ % 25 != 0) continue;
    CAPTURE(entry.path());
    const std::string whole = file_bytes(entry.path());
    CHECK(decode(whole).pixels.size() > 10000);
    for (std::size_t size = 1; size < whole.size(); size += 1009)
      if (!error_of([&] { decode(whole.substr(0, size)); })) FAIL("not refused at " << size);
  }
}
