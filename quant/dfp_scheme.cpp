#include "quant/dfp_scheme.h"

#include <algorithm>
#include <cmath>

#include "core/kernels/groups.h"
#include "core/kernels/quantization_error.h"
#include "core/kernels/ternary.h"
#include "core/parallel.h"
#include "quant/faq_scheme.h"

namespace faq {
namespace {

constexpr int max_value = 127;

// A group before its scale is rounded.
struct Group {
  float scale = 0;
  float threshold = -1;  // ternary: weights up to this magnitude have the code 0
};

std::vector<Group> groups_of(const Tensor& weights, std::int64_t length, int bits,
                             const NumberFormat& options) {
  std::vector<Group> groups;
  if (bits == 2) {
    for (const kernels::TernaryGroup& g : kernels::ternary_groups(weights, length, options.ternary_scale))
      groups.push_back({g.scale, g.threshold});
  } else {
    for (const float scale : kernels::group_scales(weights, length, {.bits = bits, .is_signed = true}))
      groups.push_back({scale, -1});
  }
  return groups;
}

// The code of `weight` in a group whose rounded scale is `scale`.
int code_of(float weight, const Group& group, float scale, int max_code) {
  if (scale == 0) return 0;
  if (group.threshold >= 0) return std::abs(weight) > group.threshold ? (weight > 0 ? 1 : -1) : 0;
  const auto limit = static_cast<float>(max_code);
  return static_cast<int>(round_half_even(std::clamp(weight / scale, -limit, limit)));
}

}  // namespace

QuantizedWeights cluster_weights(const Tensor& weights, int bits, const NumberFormat& options) {
  check(bits >= 2 && bits <= max_cluster_bits, "clusters: ", bits, " bits");
  const std::int64_t rows = weights.dim(0), channels = weights.dim(1), row_length = weights.numel() / rows;
  Clusters clusters;
  clusters.size = options.cluster_size == 0 ? channels : std::min(options.cluster_size, channels);
  const std::int64_t length = clusters.size * (row_length / channels);
  const std::int64_t groups_per_row = kernels::groups_in(row_length, length);
  const std::vector<Group> groups = groups_of(weights, length, bits, options);

  const int max_code = (1 << (bits - 1)) - 1, max_scale = max_value / max_code;
  const float largest = std::ranges::max_element(groups, {}, &Group::scale)->scale;
  const float layer_scale = covering_scale(largest, max_scale);
  clusters.codes = Tensor::empty(weights.shape(), DType::s8);
  clusters.scales = Tensor::empty({rows, groups_per_row}, DType::u8);
  const auto w = weights.span<float>();
  const auto codes = clusters.codes.mutable_span<std::int8_t>();
  const auto scales = clusters.scales.mutable_span<std::uint8_t>();
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t g = begin * groups_per_row; g < end * groups_per_row; ++g) {
      // The scale of a ternary group may round to 0: then its weights are nearer to 0 than to one unit of the
      // layer's scale. The scale of evenly spaced codes must stay at least 1.
      const float least = bits > 2 && groups[g].scale > 0 ? 1.0f : 0.0f;
      scales[g] = static_cast<std::uint8_t>(std::max(round_half_even(groups[g].scale / layer_scale), least));
      const float scale = static_cast<float>(scales[g]) * layer_scale;
      const std::int64_t row = g / groups_per_row, first = g % groups_per_row * length;
      for (std::int64_t i = first; i < std::min(first + length, row_length); ++i) {
        const std::int64_t at = row * row_length + i;
        codes[at] = static_cast<std::int8_t>(code_of(w[at], groups[g], scale, max_code));
      }
    }
  });
  QuantizedWeights result{cluster_values(clusters), bits, WeightCode::clusters, clusters};
  result.values.set_fixed_point({.scale = layer_scale, .bits = 8, .is_signed = true});
  return result;
}

}  // namespace faq
