#include <algorithm>
#include <cstdio>
// Needs what <cstdio> declares.
#include <jpeglib.h>
// Needs what jpeglib.h declares.
#include <jerror.h>

#include "core/error.h"
#include "data/decode.h"
#include "data/image_decoder.h"

namespace faq {
namespace {

/// The most scans of an image. Encoders write about ten; more than this is an attack on the decoder's time.
constexpr int max_scans = 100;

/// Every block has a DC code of at least one bit. It covers at most 64 pixels, times 4 by subsampling.
constexpr int max_pixels_per_byte = 8 * 64 * 4;

struct Warning {
  int code;
  Effect effect;
  const char* reason;
};

/// docs/commands.md has the same table.
constexpr Warning warnings[] = {
    {JWRN_EXTRANEOUS_DATA, Effect::none, "every block before them was decoded; the bytes are nobody's"},
    {JWRN_JFIF_MAJOR, Effect::none, "the version of JFIF says nothing about pixels"},
    {JWRN_ADOBE_XFORM, Effect::none, "the colours are taken as YCbCr or YCCK, as every decoder does"},
    {JWRN_NOT_SEQUENTIAL, Effect::none, "a sequential scan has no use for these parameters"},
    {JWRN_HIT_MARKER, Effect::loses_data, "the scan ends before its blocks; the rest would be grey"},
    {JWRN_JPEG_EOF, Effect::loses_data, "the file ends before its blocks"},
    {JWRN_HUFF_BAD_CODE, Effect::loses_data, "a block is unreadable, and all that follow may be wrong"},
    {JWRN_ARITH_BAD_CODE, Effect::loses_data, "as for Huffman codes"},
    {JWRN_MUST_RESYNC, Effect::loses_data, "a restart is missing or out of order: blocks are lost or moved"},
    {JWRN_BOGUS_PROGRESSION, Effect::loses_data, "a scan is missing or comes twice: coefficients are wrong"},
    {JWRN_TOO_MUCH_DATA, Effect::loses_data, "there is no place for these rows"},
};

Effect effect_of(int code) {
  const auto* row = std::ranges::find(warnings, code, &Warning::code);
  return row == std::end(warnings) ? Effect::loses_data : row->effect;
}

/// Converts CMYK to RGB in PIL's arithmetic. The CMYK is inverted, as Photoshop writes it and PIL assumes.
void cmyk_to_rgb(const std::vector<std::uint8_t>& cmyk, std::vector<std::uint8_t>& rgb) {
  for (std::size_t i = 0, n = cmyk.size() / 4; i < n; ++i) {
    const int k = cmyk[4 * i + 3];
    for (std::size_t c = 0; c < 3; ++c) {
      const int product = (255 - cmyk[4 * i + c]) * k + 128;
      rgb[3 * i + c] = static_cast<std::uint8_t>(k - ((product + (product >> 8)) >> 8));
    }
  }
}

class JpegDecoder {
 public:
  explicit JpegDecoder(const EncodedImage& image) : image_(image) {}
  ~JpegDecoder() { jpeg_destroy_decompress(&info_); }
  JpegDecoder(const JpegDecoder&) = delete;
  JpegDecoder& operator=(const JpegDecoder&) = delete;

  Image decode() {
    reports_.run(image_, [this] { read_header(); });
    check_header();
    Image image{static_cast<int>(info_.image_height),
                static_cast<int>(info_.image_width),
                info_.num_components == 1 ? 1 : 3,
                {}};
    const std::size_t row = info_.image_width * static_cast<std::size_t>(info_.num_components);
    std::vector<std::uint8_t> raw(info_.image_height * row);
    reports_.run(image_, [this, row, pixels = raw.data()] { read_pixels(pixels, row); });
    if (info_.num_components == 4) {
      image.pixels.resize(raw.size() / 4 * 3);
      cmyk_to_rgb(raw, image.pixels);
    } else {
      image.pixels = std::move(raw);
    }
    image.fault = reports_.fault();
    return image;
  }

 private:
  void read_header() {
    info_.err = jpeg_std_error(&errors_);
    errors_.error_exit = [](j_common_ptr info) { self(info).on_error(); };
    errors_.emit_message = [](j_common_ptr info, int level) {
      if (level < 0) self(info).on_warning();
    };
    info_.client_data = this;
    jpeg_create_decompress(&info_);

    source_.init_source = [](j_decompress_ptr) {};
    source_.fill_input_buffer = [](j_decompress_ptr info) -> boolean { self(info).truncated(); };
    source_.skip_input_data = [](j_decompress_ptr info, long bytes) { self(info).skip(bytes); };
    source_.resync_to_restart = jpeg_resync_to_restart;
    source_.term_source = [](j_decompress_ptr) {};
    source_.next_input_byte = reinterpret_cast<const JOCTET*>(image_.bytes.data());
    source_.bytes_in_buffer = image_.bytes.size();
    info_.src = &source_;
    jpeg_read_header(&info_, TRUE);
  }

  void check_header() const {
    const auto expect = [&](bool condition, const auto&... parts) {
      check(condition, ErrorKind::bad_data, image_.name, ": JPEG: ", parts...);
    };
    expect(info_.data_precision == 8, "expected 8 bits per sample, found ", info_.data_precision);
    expect(!info_.arith_code, "arithmetic-coded: expected Huffman codes");
    expect(info_.num_components == 1 || info_.num_components == 3 || info_.num_components == 4,
           "expected 1, 3 or 4 components, found ", info_.num_components);
    check_extent(image_, info_.image_width, info_.image_height, max_pixels_per_byte);
  }

  /// The defaults of the library are PIL's: exact integer DCT, smooth upsampling. Where a file has no Huffman
  /// tables (as frames of Motion JPEG), the library takes those of the standard, and PIL with it.
  void read_pixels(std::uint8_t* pixels, std::size_t row) {
    info_.out_color_space = info_.num_components == 1   ? JCS_GRAYSCALE
                            : info_.num_components == 3 ? JCS_RGB
                                                        : JCS_CMYK;
    progress_.progress_monitor = [](j_common_ptr info) { self(info).on_progress(); };
    info_.progress = &progress_;
    jpeg_start_decompress(&info_);
    while (info_.output_scanline < info_.output_height) {
      JSAMPROW next = pixels + info_.output_scanline * row;
      jpeg_read_scanlines(&info_, &next, 1);
    }
    check_scans();
    jpeg_finish_decompress(&info_);  // reads up to the end marker
  }

  /// Called again and again while scans are read.
  void on_progress() {
    static_assert(max_scans == 100, "the text");
    if (info_.input_scan_number > max_scans) reports_.leave("expected at most 100 scans");
    for (int i = 0; i < info_.comps_in_scan; ++i) present_[info_.cur_comp_info[i]->component_index] = true;
  }

  /// A file that was cut between two scans and has an end marker again gives no warning.
  void check_scans() {
    for (int c = 0; c < info_.num_components; ++c) {
      if (!present_[c]) reports_.leave("a component has no data");
      if (!info_.progressive_mode) continue;
      const auto& bits = info_.coef_bits[c];
      // Of a coefficient that no scan had nothing is known: the picture is a blur of blocks, or less.
      if (std::ranges::any_of(bits, [](int left) { return left < 0; }))
        reports_.leave("Progressive JPEG without the first scans of all coefficients: it is cut short");
      if (std::ranges::any_of(bits, [](int left) { return left != 0; }))
        reports_.warn("Progressive JPEG without its last scans", Effect::none);
    }
  }

  void on_error() {
    char text[JMSG_LENGTH_MAX] = "";
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), text);
    if (errors_.msg_code == JERR_OUT_OF_MEMORY) reports_.set_out_of_memory();
    reports_.leave(text);
  }

  void on_warning() {
    char text[JMSG_LENGTH_MAX] = "";
    errors_.format_message(reinterpret_cast<j_common_ptr>(&info_), text);
    reports_.warn(text, effect_of(errors_.msg_code));
  }

  [[noreturn]] void truncated() { reports_.leave_truncated(image_); }

  void skip(long bytes) {
    if (bytes <= 0) return;
    if (static_cast<std::size_t>(bytes) > source_.bytes_in_buffer) truncated();
    source_.next_input_byte += bytes;
    source_.bytes_in_buffer -= static_cast<std::size_t>(bytes);
  }

  template <class Info>
  static JpegDecoder& self(Info* info) {
    return *static_cast<JpegDecoder*>(info->client_data);
  }

  EncodedImage image_;
  Reports reports_;
  jpeg_error_mgr errors_{};
  jpeg_source_mgr source_{};
  jpeg_progress_mgr progress_{};
  jpeg_decompress_struct info_{};
  bool present_[MAX_COMPONENTS] = {};  ///< components of which there was a scan
};

}  // namespace

const char* jpeg_decoder_name() {
#ifdef LIBJPEG_TURBO_VERSION
  return "libjpeg-turbo";
#else
  return "libjpeg";
#endif
}

Image decode_jpeg(const EncodedImage& image) { return JpegDecoder(image).decode(); }

}  // namespace faq
