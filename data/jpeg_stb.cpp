#include "data/jpeg.h"
#include "data/stb_decoder.h"

namespace faq {

const char* jpeg_decoder_name() { return "stb_image"; }

Image decode_jpeg(std::span<const std::byte> bytes, const ImageHeader& header, const std::string& name) {
  return decode_with_stb(bytes, header, header.components == 1 ? 1 : 3, name);
}

}  // namespace faq
