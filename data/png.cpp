#include <png.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "core/error.h"
#include "data/image_decoder.h"

namespace faq {
namespace {

/// Deflate reaches at most 1032 : 1, and a byte holds at most 8 pixels.
constexpr int max_pixels_per_byte = 1032 * 8;

struct Warning {
  std::string_view text;  ///< how it ends
  const char* reason;
};

/// The warnings of libpng that lose nothing. It has no numbers for them. Those about chunks that say nothing
/// of pixels cannot come: these chunks are skipped, and so is what is between the pixels and the end marker.
/// docs/commands.md has the same table.
constexpr Warning harmless[] = {
    {"Too much image data", "all pixels came before"},
    {"Extra compressed data", "all pixels came before"},
    {"PLTE: ignored in grayscale PNG", "grey pixels have no use for a palette"},
    {"IEND: invalid", "what an end marker contains is nobody's"},
};

Effect effect_of(std::string_view text) {
  return std::ranges::any_of(harmless, [&](const Warning& row) { return text.ends_with(row.text); })
             ? Effect::none
             : Effect::loses_data;
}

class PngDecoder {
 public:
  explicit PngDecoder(const EncodedImage& image) : image_(image) {}
  ~PngDecoder() { png_destroy_read_struct(&png_, &info_, nullptr); }
  PngDecoder(const PngDecoder&) = delete;
  PngDecoder& operator=(const PngDecoder&) = delete;

  Image decode() {
    reports_.run(image_, [this] { read_header(); });
    check_extent(image_, width_, height_, max_pixels_per_byte);
    reports_.run(image_, [this] { choose_pixels(); });
    std::vector<std::uint8_t> raw(row_bytes_ * height_);
    reports_.run(image_, [this, pixels = raw.data()] { read_pixels(pixels); });

    Image image{
        static_cast<int>(height_), static_cast<int>(width_), color_ & PNG_COLOR_MASK_COLOR ? 3 : 1, {}};
    if (color_ == PNG_COLOR_TYPE_PALETTE)
      image.pixels = colors_of(raw);
    else if (wide_grey())
      image.pixels = clipped(raw);
    else
      image.pixels = std::move(raw);
    image.fault = reports_.fault();
    return image;
  }

 private:
  void read_header() {
    png_ =
        png_create_read_struct_2(PNG_LIBPNG_VER_STRING, this, on_error, on_warning, this, allocate, release);
    if (png_) info_ = png_create_info_struct(png_);
    if (!info_) {
      reports_.set_out_of_memory();
      reports_.leave("");
    }
    png_set_read_fn(png_, this, read);
    png_set_crc_action(png_, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_set_benign_errors(png_, 1);                               // as warnings, for the table above
    png_set_user_limits(png_, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // check_extent() has better ones
    // Only IHDR, PLTE, IDAT and IEND make pixels. Profiles and texts are not even unpacked.
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_keep_unknown_chunks(png_, PNG_HANDLE_CHUNK_NEVER, reinterpret_cast<png_const_bytep>("tRNS"), 1);
    png_set_chunk_malloc_max(png_, std::max<png_alloc_size_t>(image_.bytes.size(), 1));  // also their length
    png_read_info(png_, info_);
    width_ = png_get_image_width(png_, info_);
    height_ = png_get_image_height(png_, info_);
    color_ = png_get_color_type(png_, info_);
    depth_ = png_get_bit_depth(png_, info_);
  }

  bool wide_grey() const { return color_ == PNG_COLOR_TYPE_GRAY && depth_ == 16; }

  /// Of 16 bits the low byte is dropped, but not of grey without alpha (see clipped).
  void choose_pixels() {
    png_set_packing(png_);
    if (color_ == PNG_COLOR_TYPE_GRAY && depth_ < 8) png_set_expand_gray_1_2_4_to_8(png_);
    if (depth_ == 16 && !wide_grey()) png_set_strip_16(png_);
    if (color_ & PNG_COLOR_MASK_ALPHA) png_set_strip_alpha(png_);
    png_set_check_for_invalid_index(png_, 0);  // colors_of() does it
    passes_ = png_set_interlace_handling(png_);
    png_read_update_info(png_, info_);
    row_bytes_ = png_get_rowbytes(png_, info_);
  }

  void read_pixels(std::uint8_t* pixels) {
    for (int pass = 0; pass < passes_; ++pass)
      for (std::size_t y = 0; y < height_; ++y) png_read_row(png_, pixels + y * row_bytes_, nullptr);
    png_read_end(png_, nullptr);
  }

  std::vector<std::uint8_t> colors_of(const std::vector<std::uint8_t>& indices) {
    png_colorp colors = nullptr;
    int count = 0;
    png_get_PLTE(png_, info_, &colors, &count);
    std::vector<std::uint8_t> pixels;
    pixels.reserve(3 * indices.size());
    for (const std::uint8_t index : indices) {
      check(index < count, ErrorKind::bad_data, image_.name, ": PNG: a pixel of colour ", int{index},
            ", the palette has ", count, " colours");
      const png_color& color = colors[index];
      pixels.insert(pixels.end(), {color.red, color.green, color.blue});
    }
    return pixels;
  }

  /// PIL converts 16-bit grey (and only that) to 8 bits by clipping. It does not drop the low byte.
  static std::vector<std::uint8_t> clipped(const std::vector<std::uint8_t>& wide) {
    std::vector<std::uint8_t> pixels(wide.size() / 2);
    for (std::size_t i = 0; i < pixels.size(); ++i) pixels[i] = wide[2 * i] > 0 ? 255 : wide[2 * i + 1];
    return pixels;
  }

  static PngDecoder& self(void* pointer) { return *static_cast<PngDecoder*>(pointer); }

  [[noreturn]] static void on_error(png_structp png, png_const_charp text) {
    self(png_get_error_ptr(png)).reports_.leave(text);
  }
  static void on_warning(png_structp png, png_const_charp text) {
    self(png_get_error_ptr(png)).reports_.warn(text, effect_of(text));
  }
  static void read(png_structp png, png_bytep to, std::size_t bytes) {
    PngDecoder& decoder = self(png_get_io_ptr(png));
    const auto& all = decoder.image_.bytes;
    if (bytes > all.size() - decoder.position_) decoder.reports_.leave_truncated(decoder.image_);
    std::memcpy(to, all.data() + decoder.position_, bytes);
    decoder.position_ += bytes;
  }
  static png_voidp allocate(png_structp png, png_alloc_size_t bytes) {
    void* block = std::malloc(bytes);
    if (!block) self(png_get_mem_ptr(png)).reports_.set_out_of_memory();
    return block;
  }
  static void release(png_structp, png_voidp block) { std::free(block); }

  EncodedImage image_;
  Reports reports_;
  png_structp png_ = nullptr;
  png_infop info_ = nullptr;
  std::size_t position_ = 0;  ///< bytes read
  std::size_t width_ = 0;
  std::size_t height_ = 0;
  int color_ = 0;
  int depth_ = 0;
  int passes_ = 1;
  std::size_t row_bytes_ = 0;
};

}  // namespace

Image decode_png(const EncodedImage& image) { return PngDecoder(image).decode(); }

}  // namespace faq
