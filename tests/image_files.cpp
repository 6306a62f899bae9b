#include "tests/image_files.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
// Needs what <cstdio> declares.
#include <jpeglib.h>

#include "core/error.h"

namespace faq::testing {
namespace {

constexpr const char* png_signature = "\x89PNG\r\n\x1A\n";

std::string u32(std::uint32_t value) {
  return {static_cast<char>(value >> 24), static_cast<char>(value >> 16), static_cast<char>(value >> 8),
          static_cast<char>(value)};
}
std::uint32_t u32_at(const std::string& bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}
unsigned byte_at(const std::string& bytes, std::size_t at) { return static_cast<unsigned char>(bytes[at]); }

std::size_t below(Random& random, std::size_t n) {
  return n == 0 ? 0 : random.below(static_cast<std::uint32_t>(n));
}
std::string noise(Random& random, std::size_t size) {
  std::string bytes;
  for (std::size_t i = 0; i < size; ++i) bytes += static_cast<char>(random.below(256));
  return bytes;
}

}  // namespace

std::vector<std::string> jpeg_parts(const std::string& file) {
  std::vector<std::string> parts{file.substr(0, 2)};
  std::size_t at = 2;
  while (at + 4 <= file.size() && byte_at(file, at) == 0xFF && byte_at(file, at + 1) != 0xD9) {
    std::size_t end = at + 2 + (byte_at(file, at + 2) << 8 | byte_at(file, at + 3));
    if (byte_at(file, at + 1) == 0xDA)
      while (end + 1 < file.size() && (byte_at(file, end) != 0xFF || byte_at(file, end + 1) == 0 ||
                                       (byte_at(file, end + 1) & 0xF8) == 0xD0))
        ++end;
    if (end > file.size()) break;
    parts.push_back(file.substr(at, end - at));
    at = end;
  }
  parts.push_back(file.substr(std::min(at, file.size())));
  return parts;
}

std::vector<Chunk> png_chunks(const std::string& file) {
  std::vector<Chunk> chunks;
  for (std::size_t at = 8; at + 12 <= file.size();) {
    const std::size_t length = u32_at(file, at);
    if (length > file.size() - at - 12) break;
    chunks.push_back({file.substr(at + 4, 4), file.substr(at + 8, length)});
    at += length + 12;
  }
  return chunks;
}

std::string png_file(const std::vector<Chunk>& chunks) {
  std::string file = png_signature;
  for (const Chunk& chunk : chunks) {
    const std::string body = chunk.type + chunk.data;
    const auto crc = ::crc32(0, reinterpret_cast<const Bytef*>(body.data()), static_cast<uInt>(body.size()));
    file += u32(static_cast<std::uint32_t>(chunk.data.size())) + body + u32(static_cast<std::uint32_t>(crc));
  }
  return file;
}

Chunk png_header(int height, int width, int depth, int color, bool interlaced) {
  return {"IHDR", u32(static_cast<std::uint32_t>(width)) + u32(static_cast<std::uint32_t>(height)) +
                      std::string{static_cast<char>(depth), static_cast<char>(color), 0, 0,
                                  static_cast<char>(interlaced)}};
}

std::string deflated(const std::string& bytes) {
  uLongf size = ::compressBound(static_cast<uLong>(bytes.size()));
  std::string packed(size, '\0');
  check(::compress(reinterpret_cast<Bytef*>(packed.data()), &size,
                   reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uLong>(bytes.size())) == Z_OK,
        "deflate");
  packed.resize(size);
  return packed;
}

std::string inflated(const std::string& bytes) {
  z_stream stream{};
  check(::inflateInit(&stream) == Z_OK, "inflate");
  std::string unpacked(std::size_t{1} << 20, '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  stream.next_out = reinterpret_cast<Bytef*>(unpacked.data());
  stream.avail_out = static_cast<uInt>(unpacked.size());
  ::inflate(&stream, Z_SYNC_FLUSH);
  unpacked.resize(unpacked.size() - stream.avail_out);
  ::inflateEnd(&stream);
  return unpacked;
}

std::string jpeg_file(const JpegOptions& o) {
  jpeg_compress_struct info{};
  jpeg_error_mgr errors{};
  info.err = jpeg_std_error(&errors);
  errors.output_message = [](j_common_ptr) {};  // that tables are too coarse, and the like
  jpeg_create_compress(&info);
  unsigned char* bytes = nullptr;
  unsigned long size = 0;
  jpeg_mem_dest(&info, &bytes, &size);
  info.image_height = static_cast<JDIMENSION>(o.height);
  info.image_width = static_cast<JDIMENSION>(o.width);
  info.input_components = o.components;
  constexpr J_COLOR_SPACE colors[] = {JCS_UNKNOWN, JCS_GRAYSCALE, JCS_UNKNOWN, JCS_RGB, JCS_CMYK};
  info.in_color_space = colors[o.components];
  jpeg_set_defaults(&info);
  if (o.color != 0) jpeg_set_colorspace(&info, static_cast<J_COLOR_SPACE>(o.color));
  jpeg_set_quality(&info, o.quality, FALSE);
  if (!o.jfif) info.write_JFIF_header = FALSE;
  info.optimize_coding = o.optimal;
  info.arith_code = o.arithmetic;
  info.restart_interval = static_cast<unsigned>(o.restart);
  if (o.components > 1) {
    info.comp_info[0].h_samp_factor = o.across;
    info.comp_info[0].v_samp_factor = o.down;
  }
  jpeg_scan_info scans[4] = {};
  if (o.separate) {
    for (int c = 0; c < o.components; ++c) {
      scans[c].comps_in_scan = 1;
      scans[c].component_index[0] = c;
      scans[c].Se = 63;
    }
    info.scan_info = scans;
    info.num_scans = o.components;
  }
  if (o.progressive) jpeg_simple_progression(&info);
  jpeg_start_compress(&info, TRUE);
  Random random(11, RandomStream::test);
  std::vector<std::uint8_t> row(static_cast<std::size_t>(o.width * o.components));
  for (int y = 0; y < o.height; ++y) {
    for (int x = 0; x < o.width; ++x)
      for (int c = 0; c < o.components; ++c)
        row[static_cast<std::size_t>(x * o.components + c)] =
            static_cast<std::uint8_t>(5 * x + 7 * (c + 1) * y + (x > y ? 90 : 0) + random.below(24));
    JSAMPROW next = row.data();
    jpeg_write_scanlines(&info, &next, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  const std::string file(reinterpret_cast<const char*>(bytes), size);
  std::free(bytes);
  return file;
}

// --- valid files

namespace {

struct PngKind {
  const char* name;
  int color;
  int channels;
  std::vector<int> depths;
};
const PngKind png_kinds[] = {{"grey", 0, 1, {1, 2, 4, 8, 16}},
                             {"rgb", 2, 3, {8, 16}},
                             {"palette", 3, 1, {1, 2, 4, 8}},
                             {"grey_alpha", 4, 2, {8, 16}},
                             {"rgba", 6, 4, {8, 16}}};

/// Rows of any bytes and, unless every byte must stay what it is, any filters: all of it is a valid image.
std::string png_rows(Random& random, int height, std::size_t row_bytes, bool filters) {
  std::string rows;
  for (int y = 0; y < height; ++y) {
    const std::string row = noise(random, row_bytes);  // drawn before the filter, whatever the compiler
    rows += static_cast<char>(filters ? random.below(5) : 0) + row;
  }
  return rows;
}

/// The seven passes of an interlaced image: first row and column, distances of rows and columns.
constexpr int passes[][4] = {{0, 0, 8, 8}, {0, 4, 8, 8}, {4, 0, 8, 4}, {0, 2, 4, 4},
                             {2, 0, 4, 2}, {0, 1, 2, 2}, {1, 0, 2, 1}};

ImageFile odd_png(const PngKind& kind, int depth, int height, int width, bool interlaced, Random& random) {
  const auto row_bytes = [&](int columns) {
    return static_cast<std::size_t>((columns * kind.channels * depth + 7) / 8);
  };
  std::string rows;
  if (interlaced) {
    for (const auto& [y, x, down, across] : passes) {
      const int h = (height - y + down - 1) / down, w = (width - x + across - 1) / across;
      if (h > 0 && w > 0) rows += png_rows(random, h, row_bytes(w), true);
    }
  } else {
    rows = png_rows(random, height, row_bytes(width), true);
  }
  std::vector<Chunk> chunks{png_header(height, width, depth, kind.color, interlaced)};
  if (kind.color == 3) {
    chunks.push_back({"PLTE", noise(random, std::size_t{3} << depth)});
    if (random.below(2)) chunks.push_back({"tRNS", noise(random, 1 + random.below(2))});
  } else if (kind.color == 0 && random.below(2)) {
    chunks.push_back({"tRNS", std::string(2, '\0')});
  } else if (kind.color == 2 && random.below(2)) {
    chunks.push_back({"tRNS", std::string(6, '\0')});
    chunks.push_back({"PLTE", noise(random, 9)});  // what to show it with on old screens
    std::swap(chunks[1], chunks[2]);
  }
  const std::string data = deflated(rows);
  const std::size_t step = random.below(3) == 0 ? 1 + random.below(7) : data.size();
  for (std::size_t at = 0; at < data.size(); at += step) chunks.push_back({"IDAT", data.substr(at, step)});
  chunks.push_back({"IEND", ""});
  return {concat(kind.name, depth, "_", height, "x", width, interlaced ? "_interlaced" : "", ".png"),
          png_file(chunks)};
}

void add_pngs(std::vector<ImageFile>& files) {
  constexpr int sizes[][2] = {{13, 21}, {1, 1}, {1, 9}, {7, 2}};
  for (const PngKind& kind : png_kinds)
    for (const int depth : kind.depths)
      for (const auto& [height, width] : sizes)
        for (const bool interlaced : {false, true}) {
          Random random(3, RandomStream::test, files.size());
          files.push_back(odd_png(kind, depth, height, width, interlaced, random));
        }
  // A palette that is shorter than the bits allow; chunks that say nothing of pixels as integers.
  std::string rows;
  for (int y = 0; y < 5; ++y) rows += '\0' + std::string("\0\1\2\2\1\0", 6);
  const std::vector<Chunk> palette{
      png_header(5, 6, 8, 3), {"PLTE", "abcdefghi"}, {"IDAT", deflated(rows)}, {"IEND", ""}};
  files.push_back({"palette_of_3.png", png_file(palette)});
  const ImageFile grey = {"", files.front().bytes};
  const Chunk ancillary[] = {{"gAMA", u32(22000)},
                             {"sRGB", std::string(1, '\0')},
                             {"cHRM", std::string(32, '\1')},
                             {"sBIT", "\1"},
                             {"bKGD", std::string(2, '\0')},
                             {"pHYs", std::string(9, '\1')},
                             {"tIME", std::string("\7\xE8\1\1\1\1\1", 7)},
                             {"tEXt", std::string("a\0b", 3)},
                             {"zTXt", std::string("a\0\0", 3) + deflated(std::string(100, 'x'))},
                             {"iCCP", std::string("a\0\0", 3) + deflated(std::string(132, '\0'))},
                             {"acTL", std::string("\0\0\0\1\0\0\0\0", 8)},
                             {"prVt", "anything"}};
  for (const Chunk& chunk : ancillary) {
    std::vector<Chunk> chunks = png_chunks(grey.bytes);
    chunks.insert(chunks.begin() + 1, chunk);
    files.push_back({"with_" + chunk.type + ".png", png_file(chunks)});
  }
  files.push_back({"bytes_after_the_end.png", grey.bytes + "more"});
}

void add_jpegs(std::vector<ImageFile>& files) {
  const struct {
    const char* name;
    JpegOptions options;
  } rows[] = {
      {"grey", {.components = 1}},
      {"grey_restarts", {.components = 1, .restart = 1}},
      {"grey_progressive", {.components = 1, .progressive = true}},
      {"ycc_444", {.across = 1, .down = 1}},
      {"ycc_422", {.across = 2, .down = 1}},
      {"ycc_440", {.across = 1, .down = 2}},
      {"ycc_420", {}},
      {"ycc_411", {.across = 4, .down = 1}},
      {"ycc_410", {.across = 4, .down = 2}},
      {"rgb", {.color = JCS_RGB, .across = 1, .down = 1}},
      {"rgb_420", {.color = JCS_RGB}},
      {"cmyk", {.components = 4, .across = 1, .down = 1}},
      {"ycck", {.components = 4, .color = JCS_YCCK}},
      {"ycck_progressive", {.components = 4, .color = JCS_YCCK, .progressive = true}},
      {"cmyk_separate", {.components = 4, .across = 1, .down = 1, .separate = true}},
      {"no_jfif", {.jfif = false}},
      {"optimal", {.optimal = true}},
      {"restarts", {.restart = 1}},
      {"restarts_422", {.across = 2, .down = 1, .restart = 2}},
      {"separate", {.separate = true}},
      {"separate_restarts", {.restart = 3, .separate = true}},
      {"progressive", {.progressive = true}},
      {"progressive_444", {.across = 1, .down = 1, .progressive = true}},
      {"progressive_restarts", {.restart = 2, .progressive = true}},
      {"quality_1", {.quality = 1}},
      {"quality_100", {.quality = 100}},
      {"1x1", {.height = 1, .width = 1}},
      {"1x40", {.height = 1, .width = 40}},
      {"40x1", {.height = 40, .width = 1, .progressive = true}},
      {"8x8", {.height = 8, .width = 8}},
      {"16x17", {.height = 16, .width = 17}},
      {"large", {.height = 61, .width = 83}},
  };
  for (const auto& row : rows) files.push_back({concat(row.name, ".jpg"), jpeg_file(row.options)});
  const std::string usual = jpeg_file({});
  files.push_back({"bytes_after_the_end.jpg", usual + "more"});
  files.push_back({"fill_bytes.jpg", usual.substr(0, 2) + "\xFF\xFF\xFF" + usual.substr(2)});
  // As frames of Motion JPEG are: their tables are those of the standard.
  std::string no_tables;
  for (const std::string& part : jpeg_parts(usual))
    if (byte_at(part, 1) != 0xC4) no_tables += part;
  files.push_back({"no_huffman_tables.jpg", no_tables});
}

// --- damage

void change_bytes(std::string& bytes, Random& random) {
  if (bytes.empty()) return;
  const std::size_t at = below(random, bytes.size());
  switch (random.below(6)) {
    case 0:
      bytes[at] = static_cast<char>(bytes[at] ^ (1 << random.below(8)));
      break;
    case 1:
      bytes[at] = static_cast<char>(random.below(256));
      break;
    case 2:
      bytes[at] = random.below(2) ? '\xFF' : '\0';
      break;
    case 3:
      bytes.insert(at, noise(random, 1 + random.below(6)));
      break;
    case 4:
      bytes.erase(at, 1 + random.below(6));
      break;
    case 5: {  // one draw after the other, whatever the compiler
      const std::size_t from = below(random, bytes.size());
      bytes.insert(at, bytes.substr(from, random.below(30)));
      break;
    }
  }
}

/// Drops, doubles, moves or takes over a part. The first one stays.
template <class Part>
void change_parts(std::vector<Part>& parts, const std::vector<Part>& others, Random& random) {
  if (parts.size() < 2 || others.size() < 2) return;
  const auto place = [&] {
    return parts.begin() + 1 + static_cast<std::ptrdiff_t>(below(random, parts.size() - 1));
  };
  const auto a = place(), b = place();
  const Part other = others[1 + below(random, others.size() - 1)];
  switch (random.below(5)) {
    case 0:
      parts.erase(a);
      break;
    case 1:
      parts.insert(b, Part(*a));
      break;
    case 2:
      std::iter_swap(a, b);
      break;
    case 3:
      *a = other;
      break;
    case 4:
      parts.insert(a, other);
      break;
  }
}

std::string mutated_jpeg(const std::string& file, const std::string& other, Random& random) {
  std::vector<std::string> parts = jpeg_parts(file);
  const std::size_t at = 1 + below(random, parts.size() - 1);
  switch (random.below(4)) {
    case 0:
      change_parts(parts, jpeg_parts(other), random);
      break;
    case 1:  // between two segments
      parts[at] = noise(random, 1 + random.below(70)) + parts[at];
      break;
    case 2:  // within a segment, whose length stays right
      if (std::string& part = parts[at]; part.size() > 4)
        part[4 + below(random, part.size() - 4)] = static_cast<char>(random.below(random.below(2) ? 256 : 4));
      break;
    case 3:  // the data of a scan, or what there is
      for (std::string& part : parts)
        if (part.size() > 1 && byte_at(part, 1) == 0xDA && random.below(2)) change_bytes(part, random);
      break;
  }
  std::string all;
  for (const std::string& part : parts) all += part;
  return all;
}

std::string mutated_png(const std::string& file, const std::string& other, Random& random) {
  std::vector<Chunk> chunks = png_chunks(file);
  if (chunks.empty()) return file;
  Chunk& chunk = chunks[below(random, chunks.size())];
  switch (random.below(5)) {
    case 0:
      change_parts(chunks, png_chunks(other), random);
      break;
    case 1:
      change_bytes(chunk.data, random);
      break;
    case 2:  // a number of the header
      if (std::string& header = chunks[0].data; header.size() == 13) {
        constexpr std::array<int, 4> colors{0, 2, 3, 6};
        const int what = static_cast<int>(random.below(5));
        if (what == 0) header[3] = static_cast<char>(header[3] + 1 - static_cast<int>(random.below(3)));
        if (what == 1) header[7] = static_cast<char>(header[7] + 1 - static_cast<int>(random.below(3)));
        if (what == 2) header[8] = static_cast<char>(1 << random.below(5));
        if (what == 3) header[9] = static_cast<char>(colors[random.below(4)]);
        if (what == 4) header[12] = static_cast<char>(1 - header[12]);
      }
      break;
    case 3:  // a palette that is too short or too long
      for (Chunk& c : chunks)
        if (c.type == "PLTE") c.data.resize(3 * below(random, c.data.size() / 3 + 2), 'x');
      break;
    case 4: {  // pixels before they are compressed
      std::string data;
      for (const Chunk& c : chunks)
        if (c.type == "IDAT") data += c.data;
      std::string rows = inflated(data);
      if (random.below(4) == 0)
        rows.resize(rows.size() - below(random, std::min<std::size_t>(rows.size(), 40)));
      else
        for (std::size_t n = 1 + random.below(4); n > 0; --n) change_bytes(rows, random);
      std::erase_if(chunks, [](const Chunk& c) { return c.type == "IDAT"; });
      chunks.insert(chunks.end() - (chunks.empty() ? 0 : 1), Chunk{"IDAT", deflated(rows)});
      break;
    }
  }
  return png_file(chunks);
}

}  // namespace

std::vector<ImageFile> odd_images() {
  std::vector<ImageFile> files;
  add_pngs(files);
  add_jpegs(files);
  return files;
}

std::string mutated(const std::string& file, const std::string& other, Random& random) {
  std::string bytes = file;
  for (std::size_t changes = 1 + random.below(3); changes > 0; --changes) {
    const bool parts = random.below(4) > 0;
    if (parts && bytes.starts_with("\x89PNG\r\n"))
      bytes = mutated_png(bytes, other.starts_with("\x89PNG\r\n") ? other : bytes, random);
    else if (parts && bytes.starts_with("\xFF\xD8"))
      bytes = mutated_jpeg(bytes, other.starts_with("\xFF\xD8") ? other : bytes, random);
    else
      change_bytes(bytes, random);
  }
  return bytes;
}

}  // namespace faq::testing
