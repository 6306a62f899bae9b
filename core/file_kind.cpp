#include "core/file_kind.h"

#include <algorithm>
#include <cctype>

#include "core/text.h"

namespace faq {
namespace {

using namespace std::string_view_literals;

// tools/convert_torch.py has the same table.
struct Row {
  std::string_view start;
  const char* kind;
};
constexpr Row rows[] = {
    {"PK\3\4"sv, "a PyTorch file: convert it with tools/convert_torch.py"},
    {"PK\5\6"sv, "an empty zip archive"},
    {"version https://git-lfs"sv, "a git LFS pointer, not the file itself: run git lfs pull"},
    {"\x1f\x8b"sv, "a gzip file: unpack it with gunzip"},
    {"BZh"sv, "a bzip2 file: unpack it with bunzip2"},
    {"\xfd"
     "7zXZ\0"sv,
     "an xz file: unpack it with unxz"},
    {"\x28\xb5\x2f\xfd"sv, "a Zstandard file: unpack it with unzstd"},
    {"7z\xbc\xaf\x27\x1c"sv, "a 7-Zip archive: unpack it"},
    {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file (of Keras?)"},
    {"\x93NUMPY"sv, "a NumPy array"},
    {"GGUF"sv, "a GGUF file"},
    {"%PDF"sv, "a PDF file"},
    {"\x89PNG"sv, "a PNG image"},
    {"\xff\xd8\xff"sv, "a JPEG image"},
    {"GIF8"sv, "a GIF image"},
    {"II*\0"sv, "a TIFF image"},
    {"MM\0*"sv, "a TIFF image"},
    {"8BPS"sv, "a Photoshop image"},
    {"\xff\x0a"sv, "a JPEG XL image"},
    {"\0\0\0\x0cJXL "sv, "a JPEG XL image"},
    {"\0\0\0\x0cjP  "sv, "a JPEG 2000 image"},
    {"qoif"sv, "a QOI image"},
};

bool is_space(char c) { return std::isspace(static_cast<unsigned char>(c)) != 0; }

// ONNX is protobuf without a signature: field 1 is the version of its IR, field 2 the name of its producer.
bool is_onnx(std::string_view start) {
  return start.size() > 4 && start[0] == '\x08' && start[1] > 0 && start[1] < 32 &&
         (start[2] == '\x12' || start[2] == '\x3a' || start[2] == '\x42');
}

}  // namespace

std::string file_kind(std::string_view start) {
  for (const Row& row : rows)
    if (start.starts_with(row.start)) return row.kind;
  // Pickles: the byte 0x80, the protocol and an instruction, which is not 0.
  if (start.size() > 2 && start[0] == '\x80' && start[1] >= 2 && start[1] <= 5 && start[2] != '\0')
    return rows[0].kind;
  if (start.size() > 8 && start.substr(4, 4) == "TFL3") return "a TensorFlow Lite model";
  if (start.size() > 12 && start.starts_with("RIFF") && start.substr(8, 4) == "WEBP") return "a WebP image";
  if (start.size() > 12 && start.substr(4, 4) == "ftyp")
    return start.substr(8, 3) == "avi"  ? "an AVIF image"
           : start.substr(8, 2) == "he" ? "a HEIC image"
                                        : "a video";
  if (start.size() > 14 && start.starts_with("BM") && start.substr(6, 4) == "\0\0\0\0"sv)
    return "a BMP image";
  if (start.size() > 262 && start.substr(257, 5) == "ustar") return "a tar archive: unpack it";
  if (is_onnx(start)) return "an ONNX model";
  std::string_view text = without_byte_order_mark(start);
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  std::string head(text.substr(0, 16));
  std::ranges::transform(head, head.begin(), [](char c) {
    return static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  });
  for (const char* tag : {"<!doctype html", "<html", "<head"})
    if (head.starts_with(tag)) return "an HTML page: the download gave a page, not the file";
  if (head.starts_with("<?xml")) return "an XML document: the download gave an error, not the file?";
  if (head.starts_with("{") || head.starts_with("["))
    return "JSON text (an index of several files, or a configuration?)";
  if (!start.empty() && std::ranges::all_of(start, [](char c) { return c == '\0'; }))
    return "nothing but zeros: the download or the copy is damaged";
  if (start.size() >= 8 &&
      std::ranges::all_of(start, [](char c) { return is_space(c) || (c >= ' ' && c < 127); }))
    return "text";
  return "";
}

}  // namespace faq
