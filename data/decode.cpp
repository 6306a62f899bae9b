#include "data/decode.h"

#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/file_kind.h"
#include "data/channels.h"
#include "data/file.h"
#include "data/image_decoder.h"

namespace faq {
namespace {

constexpr std::int64_t max_image_file_bytes = std::int64_t{1} << 30;

struct Kind {
  const char* name;
  std::string_view begins;
  Image (*decode)(const EncodedImage&);
};
constexpr Kind kinds[] = {{"JPEG", "\xFF\xD8\xFF", decode_jpeg}, {"PNG", "\x89PNG\r\n\x1A\n", decode_png}};

const Kind* kind_of(std::span<const std::byte> bytes) {
  const auto* kind = std::ranges::find_if(kinds, [&](const Kind& k) {
    return bytes.size() >= k.begins.size() &&
           std::memcmp(bytes.data(), k.begins.data(), k.begins.size()) == 0;
  });
  return kind == std::end(kinds) ? nullptr : kind;
}

}  // namespace

bool begins_as_image(std::span<const std::byte> head) { return kind_of(head) != nullptr; }

Image decode_image(std::span<const std::byte> bytes, int channels, const std::string& name) {
  check(channels == 1 || channels == 3, "decode: expected 1 or 3 channels, got ", channels);
  check(!bytes.empty(), ErrorKind::bad_data, name, ": expected a JPEG or PNG image, found an empty file");
  const Kind* kind = kind_of(bytes);
  if (kind == nullptr) {
    const std::string found =
        file_kind({reinterpret_cast<const char*>(bytes.data()), std::min(bytes.size(), file_kind_bytes)});
    fail(ErrorKind::bad_data, name, ": expected a JPEG or PNG image, found ",
         found.empty() ? "neither" : found);
  }
  return with_channels(kind->decode({bytes, name, kind->name}), channels);
}

Image load_image(const std::filesystem::path& file, int channels) {
  return decode_image(read_file(file, max_image_file_bytes), channels, file.string());
}

}  // namespace faq
