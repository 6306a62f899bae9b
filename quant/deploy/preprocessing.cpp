#include "quant/deploy/preprocessing.h"

#include <cmath>

#include "core/error.h"

namespace faq {
namespace {

void check_range(const char* what, int value, int low) {
  check(value >= low && value <= Preprocessing::max_extent, ErrorKind::usage, "preprocessing: ", what, " ",
        value, ": expected ", low, " to ", Preprocessing::max_extent);
}

}  // namespace

void check_preprocessing(const Preprocessing& p) {
  check_range("height", p.height, 1);
  check_range("width", p.width, 1);
  check_range("resize", p.resize, 0);
  check(p.channels == 1 || p.channels == 3, ErrorKind::usage, "preprocessing: channels ", p.channels,
        ": expected 1 or 3");
  check(p.mean.size() == p.std.size(), ErrorKind::usage, "preprocessing: ", p.mean.size(), " means, ",
        p.std.size(), " standard deviations");
  check(p.mean.empty() || std::ssize(p.mean) == p.channels, ErrorKind::usage,
        "preprocessing: ", p.mean.size(), " means, ", p.channels, " channels");
  for (const float mean : p.mean)
    check(std::isfinite(mean), ErrorKind::usage, "preprocessing: mean ", mean, ": expected a finite number");
  for (const float std : p.std)
    check(std::isnormal(std) && std > 0, ErrorKind::usage, "preprocessing: std ", std,
          ": expected a positive number");
}

}  // namespace faq
