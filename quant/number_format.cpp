#include "quant/number_format.h"

#include "core/error.h"

namespace faq {

void check_bits(const char* field, int bits) {
  check(bits >= 2 && bits <= 8, ErrorKind::usage, "`", field, "` ", bits, ": expected 2 to 8");
}

std::string residual_note(int residual_bits) {
  return residual_bits > 0 ? concat(" (", residual_bits, " on residual connections)") : "";
}

}  // namespace faq
