#include "quant/equalize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/kernels/quantization_error.h"
#include "quant/adapters.h"

namespace faq {
namespace {

// The scale each channel would have by itself; 0 for a channel whose weights are all 0.
std::vector<float> channel_scales(const Tensor& weights, int bits, WeightScale how) {
  const FixedPoint format{.scale = 1.0f, .bits = bits, .is_signed = true};
  if (how == WeightScale::mse) return kernels::row_scales(weights, format);
  // A little more than the covering scale. Scaling the weights rounds them, and one weight beyond the layer's
  // scale would double that scale.
  constexpr float margin = 1 + 0x1p-20f;
  std::vector<float> scales;
  for (std::int64_t c = 0; c < weights.dim(0); ++c)
    scales.push_back(margin * kernels::max_magnitude(weights.rows(c, c + 1)) /
                     static_cast<float>(format.max()));
  return scales;
}

// The factor of each channel: the layer's scale (which may be held) over the channel's own scale.
std::vector<double> channel_factors(const std::vector<float>& scales, float held_scale) {
  std::vector<float> sorted;
  std::copy_if(scales.begin(), scales.end(), std::back_inserter(sorted),
               [](float scale) { return scale > 0; });
  if (sorted.empty()) return std::vector<double>(scales.size(), 1.0);
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double median = *middle;
  const double layer_scale = held_scale > 0 ? held_scale : std::exp2(std::round(std::log2(median)));
  std::vector<double> factors;
  for (const float scale : scales) factors.push_back(layer_scale / std::max<double>(scale, median / 4));
  return factors;
}

void scale(Var& weight, NormState& norm, const std::vector<double>& factors) {
  const double eps = norm.eps;
  const std::int64_t per_channel = weight.value().numel() / static_cast<std::int64_t>(factors.size());
  float* weights = weight.mutable_value().mutable_data<float>();
  float* gamma = norm.gamma.mutable_value().mutable_data<float>();
  float* mean = norm.running_mean.mutable_data<float>();
  float* bias = norm.conv_bias ? norm.conv_bias.mutable_value().mutable_data<float>() : nullptr;
  float* variance = norm.running_variance.mutable_data<float>();
  for (std::size_t c = 0; c < factors.size(); ++c) {
    const double factor = factors[c];
    for (std::int64_t i = 0; i < per_channel; ++i) *weights++ *= static_cast<float>(factor);
    const double scaled = factor * factor * variance[c];
    gamma[c] *= static_cast<float>(std::sqrt((scaled + eps) / (variance[c] + eps)) / factor);
    mean[c] *= static_cast<float>(factor);
    if (bias) bias[c] *= static_cast<float>(factor);
    variance[c] = static_cast<float>(scaled);
  }
}

}  // namespace

void equalize_channels(Model& model, const std::set<std::string>& except) {
  for_each_unit(model, [&](const std::string& name, Unit& unit) {
    NormState* norm = unit.batch_norm();  // the batch-norm that takes the factors back
    QuantizedUnit* quantized = quantizer_of(unit);
    if (unit.role() != UnitRole::convolution || !norm || !quantized || except.contains(name)) return;
    const QuantizerState state = quantized->state();
    Var& weights = *unit.weights();
    scale(
        weights, *norm,
        channel_factors(channel_scales(weights.value(), state.weight_bits, quantized->options().weight_scale),
                        state.weight_scale));
    if (quantized->learns_weight_scale()) quantized->start_scales(nullptr);  // from these weights
  });
}

}  // namespace faq
