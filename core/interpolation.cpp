#include "core/interpolation.h"

namespace faq {

const char* name_of(Interpolation interpolation) {
  return interpolation == Interpolation::bicubic ? "bicubic" : "bilinear";
}

}  // namespace faq
