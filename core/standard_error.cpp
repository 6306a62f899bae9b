#include "core/standard_error.h"

#include <cstdio>

namespace faq {

void write_to_stderr(std::string_view text) noexcept {
  std::fwrite(text.data(), 1, text.size(), stderr);
  std::fflush(stderr);
}

}  // namespace faq
