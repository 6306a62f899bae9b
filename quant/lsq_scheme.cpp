#include "quant/lsq_scheme.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/quantization_error.h"
#include "quant/faq_scheme.h"

namespace faq {
namespace {

float mean_magnitude(const Tensor& weights) {
  double sum = 0;
  for (const float w : weights.span<float>()) sum += std::abs(w);
  return static_cast<float>(sum / static_cast<double>(weights.numel()));
}

std::vector<float> scales_of(const Tensor& rows, const FixedPoint& format, WeightScale how) {
  if (how == WeightScale::mse) return kernels::row_scales(rows, format);
  const auto largest = static_cast<float>(format.max());
  std::vector<float> scales;
  for (std::int64_t row = 0; row < rows.dim(0); ++row) {
    const Tensor values = rows.rows(row, row + 1);
    scales.push_back(how == WeightScale::max ? kernels::max_magnitude(values) / largest
                                             : 2 * mean_magnitude(values) / std::sqrt(largest));
  }
  return scales;
}

}  // namespace

Tensor starting_scales(const Tensor& weights, int bits, const NumberFormat& options) {
  const std::int64_t rows = options.scale_sharing == ScaleSharing::channel ? weights.dim(0) : 1;
  std::vector<float> scales = scales_of(weights.reshaped({rows, weights.numel() / rows}),
                                        {.bits = bits, .is_signed = true}, options.weight_scale);
  for (float& scale : scales) scale = scale > 0 ? std::max(scale, least_scale) : 1.0f;
  return Tensor::from<float>({rows}, scales);
}

}  // namespace faq
