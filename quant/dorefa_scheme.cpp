#include "quant/dorefa_scheme.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/kernels/quantization_error.h"
#include "core/parallel.h"
#include "quant/faq_scheme.h"

namespace faq {
namespace {

// With the 8 leading bits. The others come from the last bits of convolutions in floating point, which differ
// between CPUs; so the same network is calibrated alike, and then trained alike, on all of them.
float with_few_bits(float scale) {
  int exponent = 0;
  const float mantissa = std::frexp(scale, &exponent);
  return std::ldexp(std::nearbyint(mantissa * 256.0f), exponent - 8);
}

}  // namespace

QuantizedWeights dorefa_weights(const Tensor& tanh_weights, int bits) {
  check(bits >= 2 && bits <= max_dorefa_bits, "dorefa: ", bits, " bits");
  const float largest = kernels::max_magnitude(tanh_weights);
  const auto levels = static_cast<float>((1 << bits) - 1);
  QuantizedWeights result{Tensor::empty(tanh_weights.shape(), DType::s8), bits, WeightCode::odd};
  // If all weights are (nearly) 0, all become the same odd integer, 1 or −1, with scale 1: there is no odd 0.
  const bool is_alive = largest >= least_scale * levels;
  const float normalise = is_alive ? 0.5f / largest : 0.0f;
  const auto t = tanh_weights.span<float>();
  const auto q = result.values.mutable_span<std::int8_t>();
  parallel_for(tanh_weights.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      q[i] = static_cast<std::int8_t>(2 * round_half_even((t[i] * normalise + 0.5f) * levels) - levels);
  });
  result.values.set_fixed_point({.scale = is_alive ? largest / levels : 1.0f, .bits = 8, .is_signed = true});
  return result;
}

FixedPoint real_activation_format(const Histogram& histogram, int bits, bool is_signed,
                                  const NumberFormat& options) {
  FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = is_signed};
  const auto with_range = [&](float range) {
    format.scale =
        range > 0 ? std::max(with_few_bits(range / static_cast<float>(format.max())), least_scale) : 1.0f;
    return format;
  };
  if (options.calibration == Calibration::percentile)
    return with_range(histogram.percentile(calibration_percentile(bits, options)));
  FixedPoint best = with_range(histogram.max());
  if (options.calibration == Calibration::max) return best;
  double smallest = histogram.squared_error(best);
  constexpr int per_octave = 8, octaves = 6;
  for (int i = 1; i <= per_octave * octaves; ++i) {
    const FixedPoint candidate = with_range(histogram.max() * std::exp2(-static_cast<float>(i) / per_octave));
    const double error = histogram.squared_error(candidate);
    if (error < smallest) {
      smallest = error;
      best = candidate;
    }
  }
  return best;
}

}  // namespace faq
