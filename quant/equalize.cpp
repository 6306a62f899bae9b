#include "quant/equalize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/kernels/quantization_error.h"
#include "quant/adapters.h"

namespace faq {
namespace {

// The step each channel would have by itself; 0 for one without weights.
std::vector<float> channel_steps(const Tensor& weights, int bits, WeightStep how) {
  const FixedPoint format{.step = 1.0f, .bits = bits, .is_signed = true};
  if (how == WeightStep::mse) return kernels::row_steps(weights, format);
  // A little more than covers it: scaling rounds, and one weight beyond the layer's step doubles that.
  constexpr float margin = 1 + 0x1p-20f;
  std::vector<float> steps;
  for (std::int64_t c = 0; c < weights.dim(0); ++c)
    steps.push_back(margin * kernels::max_magnitude(weights.rows(c, c + 1)) /
                    static_cast<float>(format.max()));
  return steps;
}

// What each channel is to be multiplied by: the layer's step, which may be held, over the channel's own.
std::vector<double> channel_factors(const std::vector<float>& steps, float held_step) {
  std::vector<float> sorted;
  std::copy_if(steps.begin(), steps.end(), std::back_inserter(sorted), [](float step) { return step > 0; });
  if (sorted.empty()) return std::vector<double>(steps.size(), 1.0);
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  const double median = *middle;
  const double layer_step = held_step > 0 ? held_step : std::exp2(std::round(std::log2(median)));
  std::vector<double> factors;
  for (const float step : steps) factors.push_back(layer_step / std::max<double>(step, median / 4));
  return factors;
}

void scale(ConvUnit& unit, const std::vector<double>& factors) {
  NormState& norm = unit.norm();
  const double eps = unit.eps();
  const std::int64_t per_channel = unit.weight().value().numel() / static_cast<std::int64_t>(factors.size());
  float* weights = unit.weight().mutable_value().mutable_data<float>();
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
    auto* conv = dynamic_cast<ConvUnit*>(&unit);  // a normalisation takes the factors back
    const auto* quantized = dynamic_cast<const QuantizedUnit*>(unit.adapter());
    if (!conv || !conv->has_batch_norm() || !quantized || except.contains(name)) return;
    const QuantizerState state = quantized->state();
    scale(*conv, channel_factors(channel_steps(conv->weight().value(), state.weight_bits,
                                               quantized->options().weight_step),
                                 state.weight_step));
  });
}

}  // namespace faq
