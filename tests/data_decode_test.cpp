#include "data/decode.h"

#include <sys/stat.h>

#include <cstring>

#include "data/image_header.h"
#include "tests/data_testing.h"
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
  return bytes;
}

/// The scans of progressive.jpg, its last one many times over.
std::string thousand_scans() {
  std::string bytes = fixture_bytes("progressive.jpg");
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
      {"text", "once upon a time", "found neither"},
      {"GIF", "GIF89a.....", "found neither"},
      {"one byte", "\xFF", "found neither"},
      {"only the start marker", "\xFF\xD8", "truncated"},
      {"start and end", "\xFF\xD8\xFF\xD9", "no image data"},
      {"junk after the start", "\xFF\xD8 hello hello", "expected a marker at offset 2"},
      {"segment of length 1", std::string("\xFF\xD8\xFF\xE0\x00\x01\xFF\xD9", 8), "segment of length 1"},
      {"26000 x 26000", claiming(26000, 26000), "expected at most 100000000 pixels"},
      {"more pixels than bytes can hold", claiming(9000, 9000), "cannot be contained"},
      {"no rows", claiming(0, 23), "zero-sized"},
      {"no columns", claiming(17, 0), "zero-sized"},
      {"12 bits", with_frame_byte(4, 12), "expected 8 bits"},
      {"arithmetic-coded", with_frame_byte(1, '\xC9'), "arithmetic-coded"},
      {"lossless", with_frame_byte(1, '\xC3'), "lossless"},
      {"two components", with_frame_byte(9, 2), "expected 1, 3 or 4 components"},
      {"frame header too short", with_frame_byte(9, 4), "frame header of length"},
      {"thousand scans", thousand_scans(), "expected at most 100 scans"},
      {"Huffman table of 4080 codes",
       after_start("\xFF\xC4\x10\x03" + std::string(1, '\0') + std::string(4096, '\xFF')),
       "Huffman table of 4080 codes"},
      {"Huffman table beyond its segment",
       after_start(std::string("\xFF\xC4\x00\x13", 4) + std::string(17, '\1')), "Huffman table of 16 codes"},
      {"huge PNG", png_claiming(26000, 26000), "expected at most 100000000 pixels"},
      {"PNG with sides of 2^32 - 1", png_claiming(0xFFFFFFFF, 0xFFFFFFFF),
       "expected at most 100000000 pixels"},
      {"PNG without rows", png_claiming(0, 23), "zero-sized"},
      {"PNG of another size", png_claiming(23, 17 + 1), "wrong checksum"},
      {"PNG that inflates to 8 MB",
       testing::png({16, 16, 3, std::vector<std::uint8_t>(768)}, std::size_t{8} << 20),
       "more data than 16 x 16 pixels need"},
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
  const Image black{2, 3, 3, std::vector<std::uint8_t>(18)};
  check_equal(decode(testing::png(black, 100)), black);  // what no pixel needs
  check_equal(decode(fixture_bytes("rgb.png") + "trailing garbage"), read_pnm(fixture("rgb.png.ppm")));
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
