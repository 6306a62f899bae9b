#include "quant/faq_scheme.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include "core/kernels/quantization_error.h"

namespace faq {
namespace {

// The number of scales to try, from the covering one down. Each halving clips more and rounds more finely.
constexpr int candidates = 6;

// Returns the scale with the smallest error among 2^l, 2^(l−1), … Of equals, the larger one.
template <class Errors>
FixedPoint best_scale(FixedPoint covering, Errors errors_of) {
  std::array<FixedPoint, candidates> formats;
  for (FixedPoint& format : formats) {
    format = covering;
    covering.scale *= 0.5f;
  }
  const std::vector<double> errors = errors_of(formats);
  return formats[static_cast<std::size_t>(std::ranges::min_element(errors) - errors.begin())];
}

}  // namespace

float covering_scale(float magnitude, int max) {
  if (!(magnitude > 0)) return 1.0f;
  // frexp is exact where log2 is not: magnitude/max = m·2^e with m in [0.5, 1).
  int exponent = 0;
  const double mantissa = std::frexp(static_cast<double>(magnitude) / max, &exponent);
  return std::max(std::ldexp(1.0f, mantissa == 0.5 ? exponent - 1 : exponent), least_scale);
}

FixedPoint choose_weight_format(const Tensor& weights, int bits, WeightScale how) {
  FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = true};
  format.scale = covering_scale(kernels::max_magnitude(weights), format.max());
  if (how == WeightScale::max) return format;
  return best_scale(format, [&](std::span<const FixedPoint> formats) {
    return kernels::quantization_errors(weights, formats);
  });
}

double calibration_percentile(int bits, const NumberFormat& options) {
  if (options.calibration_percentile > 0) return options.calibration_percentile;
  return bits > 6 ? 99.99 : 99.9;
}

FixedPoint choose_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                    const NumberFormat& options) {
  FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = is_signed};
  const float range = options.calibration == Calibration::percentile
                          ? histogram.percentile(calibration_percentile(bits, options))
                          : histogram.max();
  format.scale = covering_scale(range, format.max());
  if (options.calibration != Calibration::mse) return format;
  return best_scale(format, [&](std::span<const FixedPoint> formats) {
    std::vector<double> errors;
    for (const FixedPoint& f : formats) errors.push_back(histogram.squared_error(f));
    return errors;
  });
}

}  // namespace faq
