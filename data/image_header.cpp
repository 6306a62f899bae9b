#include "data/image_header.h"

#include <zlib.h>

#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "data/decode.h"

namespace faq {
namespace {

/// Big-endian reading with bounds checks. If the bytes end too early, the file is bad.
class Bytes {
 public:
  Bytes(std::span<const std::byte> bytes, const std::string& name, const char* kind)
      : bytes_(bytes), name_(name), kind_(kind) {}

  std::size_t position() const { return position_; }
  std::size_t size() const { return bytes_.size(); }
  const unsigned char* here() const {
    return reinterpret_cast<const unsigned char*>(bytes_.data()) + position_;
  }

  std::uint32_t u8() { return read(1); }
  std::uint32_t u16() { return read(2); }
  std::uint32_t u32() { return read(4); }
  void skip(std::size_t n) {
    need(n);
    position_ += n;
  }
  void need(std::size_t n) const {
    if (bytes_.size() - position_ < n) truncated();
  }

  [[noreturn]] void truncated() const {
    fail(ErrorKind::bad_data, name_, ": truncated ", kind_, ": no end marker in ", size(), " bytes");
  }
  template <class... Parts>
  void expect(bool condition, const Parts&... parts) const {
    check(condition, ErrorKind::bad_data, name_, ": ", kind_, ": ", parts...);
  }

 private:
  std::uint32_t read(std::size_t n) {
    need(n);
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < n; ++i) value = value << 8 | here()[i];
    position_ += n;
    return value;
  }

  std::span<const std::byte> bytes_;
  const std::string& name_;
  const char* kind_;
  std::size_t position_ = 0;
};

/// `pixels_per_byte`: the most pixels that one compressed byte can hold.
void check_extent(const Bytes& in, std::uint32_t width, std::uint32_t height, std::int64_t pixels_per_byte) {
  in.expect(width > 0 && height > 0, "zero-sized: ", width, " x ", height);
  const std::uint64_t pixels = std::uint64_t{width} * height;
  in.expect(pixels <= static_cast<std::uint64_t>(max_pixels), "expected at most ", max_pixels,
            " pixels, the header claims ", width, " x ", height);
  in.expect(pixels / static_cast<std::uint64_t>(pixels_per_byte) <= in.size(), width, " x ", height,
            " pixels cannot be contained in ", in.size(), " bytes");
}

const char* unsupported_frame(std::uint32_t marker) {
  switch (marker) {
    case 0xC3:
      return "lossless";
    case 0xC5:
    case 0xC6:
    case 0xC7:
      return "hierarchical";
    case 0xC9:
    case 0xCA:
    case 0xCB:
    case 0xCD:
    case 0xCE:
    case 0xCF:
      return "arithmetic-coded";
    default:
      return nullptr;
  }
}

/// Entropy-coded data ends at a marker that is neither a stuffed zero nor a restart.
void skip_scan_data(Bytes& in) {
  for (;;) {
    const std::size_t rest = in.size() - in.position();
    const void* found = std::memchr(in.here(), 0xFF, rest);
    if (!found) in.truncated();
    in.skip(static_cast<std::size_t>(static_cast<const unsigned char*>(found) - in.here()));
    in.need(2);
    const unsigned next = in.here()[1];
    const bool data = next == 0x00 || (next >= 0xD0 && next <= 0xD7);
    if (!data && next != 0xFF) return;
    in.skip(data ? 2 : 1);
  }
}

/// Checks the Huffman tables of one segment of `length` bytes. A table is a byte with class and number, the
/// numbers of codes of 1 to 16 bits, and the codes' values. With more than 256 codes, stb_image would write
/// beyond its arrays.
void check_huffman_tables(Bytes& in, std::size_t length) {
  while (length > 0) {
    in.expect(length >= 17, "corrupt: Huffman table of ", length, " bytes");
    in.skip(1);
    std::size_t codes = 0;
    for (int bits = 1; bits <= 16; ++bits) codes += in.u8();
    in.expect(codes <= 256 && codes <= length - 17, "corrupt: Huffman table of ", codes, " codes");
    in.skip(codes);
    length -= 17 + codes;
  }
}

// ITU T.81, annex B: SOI, then segments `FF marker length16 payload`, scan data after each SOS, EOI.
ImageHeader read_jpeg_header(std::span<const std::byte> bytes, const std::string& name) {
  Bytes in(bytes, name, "JPEG");
  ImageHeader header{.kind = ImageKind::jpeg};
  int scans = 0;
  in.skip(2);
  for (;;) {
    const std::size_t offset = in.position();
    in.expect(in.u8() == 0xFF, "corrupt: expected a marker at offset ", offset);
    std::uint32_t marker = in.u8();
    while (marker == 0xFF) marker = in.u8();
    if (marker == 0xD9) break;
    in.expect(marker >= 0xC0 && marker != 0xD8 && !(marker >= 0xD0 && marker <= 0xD7),
              "corrupt: unexpected marker ", marker, " at offset ", offset);
    const std::uint32_t length = in.u16();
    in.expect(length >= 2, "corrupt: segment of length ", length, " at offset ", offset);
    in.need(length - 2);

    if (const char* coding = unsupported_frame(marker)) in.expect(false, coding, " coding is not supported");
    if (marker >= 0xC0 && marker <= 0xC2) {
      in.expect(header.components == 0, "corrupt: a second frame at offset ", offset);
      in.expect(length >= 8, "corrupt: frame header of length ", length);
      const std::uint32_t precision = in.u8(), height = in.u16(), width = in.u16(), components = in.u8();
      in.expect(precision == 8, "expected 8 bits per sample, found ", precision);
      in.expect(components == 1 || components == 3 || components == 4,
                "expected 1, 3 or 4 components, found ", components);
      in.expect(length == 8 + 3 * components, "corrupt: frame header of length ", length);
      // Every block has a DC code of at least one bit. It covers at most 64 pixels, times 4 by subsampling.
      check_extent(in, width, height, 8 * 64 * 4);
      header.height = static_cast<int>(height);
      header.width = static_cast<int>(width);
      header.components = static_cast<int>(components);
      in.skip(length - 8);
    } else if (marker == 0xC4) {
      check_huffman_tables(in, length - 2);
    } else {
      in.skip(length - 2);
    }
    if (marker == 0xDA) {
      in.expect(header.components > 0, "corrupt: a scan before the frame header");
      in.expect(++scans <= max_jpeg_scans, "expected at most ", max_jpeg_scans, " scans");
      skip_scan_data(in);
    }
  }
  in.expect(scans > 0, "corrupt: no image data");
  return header;
}

// PNG (ISO 15948), section 5: chunks `length32 type data crc32`, IHDR first, IEND last. The decoder does not
// verify checksums, so they are verified here.
ImageHeader read_png_header(std::span<const std::byte> bytes, const std::string& name) {
  Bytes in(bytes, name, "PNG");
  ImageHeader header{.kind = ImageKind::png};
  in.skip(8);
  for (bool first = true;; first = false) {
    const std::size_t offset = in.position();
    const std::uint32_t length = in.u32();
    in.expect(length < 0x80000000u, "corrupt: chunk of length ", length, " at offset ", offset);
    in.need(std::size_t{length} + 8);
    const auto is = [&](const char* type) { return std::memcmp(in.here(), type, 4) == 0; };
    const bool ihdr = is("IHDR"), iend = is("IEND");
    const auto crc = static_cast<std::uint32_t>(::crc32(0, in.here(), length + 4));
    in.skip(4);
    in.expect(ihdr == first, "corrupt: expected one IHDR chunk, as the first");
    if (ihdr) {
      in.expect(length == 13, "corrupt: IHDR of length ", length);
      const std::uint32_t width = in.u32(), height = in.u32(), depth = in.u8(), color = in.u8();
      in.expect(depth == 1 || depth == 2 || depth == 4 || depth == 8 || depth == 16, "corrupt: bit depth ",
                depth);
      // Deflate reaches at most 1032 : 1, and a byte holds at most 8 pixels.
      check_extent(in, width, height, 1032 * 8);
      header.height = static_cast<int>(height);
      header.width = static_cast<int>(width);
      header.bit_depth = static_cast<int>(depth);
      header.components = (color & 2 ? 3 : 1) + (color & 4 ? 1 : 0);
      in.skip(3);
    } else {
      in.skip(length);
    }
    in.expect(in.u32() == crc, "corrupt: wrong checksum of the chunk at offset ", offset);
    if (iend) return header;
  }
}

bool starts_with(std::span<const std::byte> bytes, std::string_view magic) {
  return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
}

}  // namespace

ImageHeader read_image_header(std::span<const std::byte> bytes, const std::string& name) {
  check(!bytes.empty(), ErrorKind::bad_data, name, ": expected a JPEG or PNG image, found an empty file");
  if (starts_with(bytes, "\xFF\xD8")) return read_jpeg_header(bytes, name);
  if (starts_with(bytes, "\x89PNG\r\n\x1A\n")) return read_png_header(bytes, name);
  fail(ErrorKind::bad_data, name, ": expected a JPEG or PNG image, found neither");
}

}  // namespace faq
