#include "data/decode.h"

#include "core/error.h"
#include "data/channels.h"
#include "data/file.h"
#include "data/image_header.h"
#include "data/jpeg.h"
#include "data/stb_decoder.h"

namespace faq {
namespace {

constexpr std::int64_t max_image_file_bytes = std::int64_t{1} << 30;

}  // namespace

Image decode_image(std::span<const std::byte> bytes, int channels, const std::string& name) {
  check(channels == 1 || channels == 3, "decode: expected 1 or 3 channels, got ", channels);
  const ImageHeader header = read_image_header(bytes, name);
  Image image = header.kind == ImageKind::jpeg
                    ? decode_jpeg(bytes, header, name)
                    : decode_with_stb(bytes, header, header.components < 3 ? 1 : 3, name);
  return with_channels(std::move(image), channels);
}

Image load_image(const std::filesystem::path& file, int channels) {
  return decode_image(read_file(file, max_image_file_bytes), channels, file.string());
}

}  // namespace faq
