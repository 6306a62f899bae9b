#include "data/encode.h"

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
// Needs what <cstdio> declares.
#include <jpeglib.h>

#include <vector>

#include "core/error.h"

namespace faq {
namespace {

// libjpeg ends the process at an error unless it is made to jump.
struct Errors {
  jpeg_error_mgr manager;
  std::jmp_buf back;
};

[[noreturn]] void jump_back(j_common_ptr info) {
  std::longjmp(reinterpret_cast<Errors*>(info->err)->back, 1);
}

// Nothing in here has a destructor that the jump would pass over. False: out of memory. `bytes`: in, where to
// begin to write; out, the whole, which may have moved to new memory of malloc().
bool encode(const Image& image, int quality, unsigned char** bytes, unsigned long* size) {
  jpeg_compress_struct info{};
  Errors errors{};
  info.err = jpeg_std_error(&errors.manager);
  errors.manager.error_exit = jump_back;
  if (setjmp(errors.back) != 0) {
    if (info.dest) info.dest->term_destination(&info);  // tells where the bytes are
    jpeg_destroy_compress(&info);
    return false;
  }
  jpeg_create_compress(&info);
  jpeg_mem_dest(&info, bytes, size);
  info.image_width = static_cast<JDIMENSION>(image.width);
  info.image_height = static_cast<JDIMENSION>(image.height);
  info.input_components = image.channels;
  info.in_color_space = image.channels == 1 ? JCS_GRAYSCALE : JCS_RGB;
  jpeg_set_defaults(&info);
  jpeg_set_quality(&info, quality, TRUE);
  info.comp_info[0].h_samp_factor = info.comp_info[0].v_samp_factor = 1;
  jpeg_start_compress(&info, TRUE);
  const std::size_t row = static_cast<std::size_t>(image.width) * static_cast<std::size_t>(image.channels);
  while (info.next_scanline < info.image_height) {
    auto* line = const_cast<JSAMPLE*>(image.pixels.data() + info.next_scanline * row);
    jpeg_write_scanlines(&info, &line, 1);
  }
  jpeg_finish_compress(&info);
  jpeg_destroy_compress(&info);
  return true;
}

}  // namespace

std::string encode_jpeg(const Image& image, int quality) {
  check(image.width > 0 && image.height > 0 && (image.channels == 1 || image.channels == 3) &&
            image.pixels.size() == static_cast<std::size_t>(image.width) *
                                       static_cast<std::size_t>(image.height) *
                                       static_cast<std::size_t>(image.channels),
        "encode_jpeg: ", image.pixels.size(), " bytes of ", image.height, "x", image.width, "x",
        image.channels);
  std::vector<unsigned char> first(1 << 16);
  unsigned char* bytes = first.data();
  unsigned long size = first.size();
  const bool done = encode(image, quality, &bytes, &size);
  std::string text = done ? std::string(reinterpret_cast<const char*>(bytes), size) : "";
  if (bytes != first.data()) std::free(bytes);
  check(done, ErrorKind::out_of_memory, "encoding an image as JPEG");
  return text;
}

}  // namespace faq
