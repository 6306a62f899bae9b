#include "data/image_decoder.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "core/error.h"
#include "data/decode.h"

namespace faq {
namespace {

template <std::size_t size>
void copy(std::string_view text, char (&to)[size]) {
  const std::size_t length = std::min(text.size(), size - 1);
  std::copy_n(text.data(), length, to);
  to[length] = '\0';
}

}  // namespace

void check_extent(const EncodedImage& image, std::int64_t width, std::int64_t height,
                  std::int64_t pixels_per_byte) {
  const auto expect = [&](bool condition, const auto&... parts) {
    check(condition, ErrorKind::bad_data, image.name, ": ", image.kind, ": ", parts...);
  };
  expect(width > 0 && height > 0, "zero-sized: ", width, " x ", height);
  expect(width <= max_pixels / height, "expected at most ", max_pixels, " pixels, the header claims ", width,
         " x ", height);
  expect(width * height / pixels_per_byte <= static_cast<std::int64_t>(image.bytes.size()), width, " x ",
         height, " pixels cannot be contained in ", image.bytes.size(), " bytes");
}

void Reports::leave(std::string_view error) {
  copy(error, error_);
  std::longjmp(back_, 1);
}

void Reports::leave_truncated(const EncodedImage& image) {
  std::snprintf(error_, sizeof error_, "truncated: no end marker in %zu bytes", image.bytes.size());
  std::longjmp(back_, 1);
}

void Reports::warn(std::string_view text, Effect effect) {
  if (effect != Effect::none) leave(text);
  if (fault_[0] == '\0') copy(text, fault_);
}

// In a file of its own, so that no variable of a caller is in a register when the library jumps back.
bool Reports::returns(void (*f)(void*), void* context) {
  if (setjmp(back_) != 0) return false;
  f(context);
  return true;
}

void Reports::throw_error(const EncodedImage& image) const {
  if (out_of_memory_) throw std::bad_alloc();
  fail(ErrorKind::bad_data, image.name, ": ", image.kind, " cannot be decoded: ", error_);
}

}  // namespace faq
