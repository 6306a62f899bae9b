// The decoders of image files, and what they share. Their libraries are written in C: they report an error to
// a function that must not return.
#pragma once

#include <csetjmp>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "data/image.h"

namespace faq {

struct EncodedImage {
  std::span<const std::byte> bytes;
  const std::string& name;  ///< for messages
  const char* kind;         ///< "JPEG" or "PNG"
};

/// Grey gives 1 channel, everything else RGB; alpha is dropped. Each call starts from nothing: no table, no
/// setting of an image before it is left. Both throw bad_data with the name. Image::fault says what is wrong
/// with a file whose pixels are all there.
Image decode_jpeg(const EncodedImage& image);
Image decode_png(const EncodedImage& image);

/// What a library's warning means for the pixels. A warning that is in no table loses data.
enum class Effect { none, loses_data };

/// Throws bad_data for a size that is zero, larger than max_pixels, or larger than the file can hold.
/// `pixels_per_byte`: the most pixels that one compressed byte can hold.
void check_extent(const EncodedImage& image, std::int64_t width, std::int64_t height,
                  std::int64_t pixels_per_byte);

/// What a C library reported while it read one image.
class Reports {
 public:
  /// Calls `f`, which calls the library. Nothing with a destructor may live between `f` and an error function
  /// that calls leave(). Throws what was reported: bad_data, or std::bad_alloc.
  template <class F>
  void run(const EncodedImage& image, F f) {
    if (!returns([](void* context) { (*static_cast<F*>(context))(); }, &f)) throw_error(image);
  }

  /// For the library's error function: ends the run.
  [[noreturn]] void leave(std::string_view error);
  /// The same, where the file ends too early.
  [[noreturn]] void leave_truncated(const EncodedImage& image);
  /// For the library's warning function: keeps the first harmless warning, and ends the run at another one.
  void warn(std::string_view text, Effect effect);
  /// For the library's allocations: an error that follows is for want of memory.
  void set_out_of_memory() { out_of_memory_ = true; }
  /// The first harmless warning, or nothing.
  std::string fault() const { return fault_; }

 private:
  bool returns(void (*f)(void*), void* context);
  [[noreturn]] void throw_error(const EncodedImage& image) const;

  std::jmp_buf back_;
  char error_[256] = "";
  char fault_[256] = "";
  bool out_of_memory_ = false;
};

}  // namespace faq
