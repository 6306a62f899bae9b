#include "quant/faq_scheme.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/kernels/quantization_error.h"

namespace faq {
namespace {

// The number of scales to try, from the covering one down. Each halving clips more and rounds more finely.
constexpr int candidates = 6;

// 2^l, 2^(l−1), …
std::vector<FixedPoint> formats_from(FixedPoint covering) {
  std::vector<FixedPoint> formats(candidates, covering);
  for (std::size_t i = 1; i < formats.size(); ++i) formats[i].scale = formats[i - 1].scale * 0.5f;
  return formats;
}

// Of equals, the larger scale.
FixedPoint best_of(const std::vector<FixedPoint>& formats, const std::vector<double>& errors) {
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

std::vector<FixedPoint> weight_formats(float magnitude, int bits, WeightScale how) {
  FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = true};
  format.scale = covering_scale(magnitude, format.max());
  return how == WeightScale::max ? std::vector{format} : formats_from(format);
}

FixedPoint choose_weight_format(const Tensor& weights, int bits, WeightScale how, const SeenWeights* seen) {
  const bool is_seen = seen && seen->version == weights.version();
  const float magnitude = is_seen ? seen->max_magnitude : kernels::max_magnitude(weights);
  const std::vector<FixedPoint> formats = weight_formats(magnitude, bits, how);
  if (formats.size() == 1) return formats.front();
  return best_of(formats, is_seen && seen->formats == formats
                              ? seen->errors
                              : kernels::quantization_errors(weights, formats));
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
  const std::vector<FixedPoint> formats = formats_from(format);
  std::vector<double> errors;
  for (const FixedPoint& f : formats) errors.push_back(histogram.squared_error(f));
  return best_of(formats, errors);
}

}  // namespace faq
