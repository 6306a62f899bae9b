#include "quant/deploy/weights.h"

#include "core/kernels/elementwise.h"
#include "core/kernels/learned_scale.h"
#include "core/parallel.h"

namespace faq {

Tensor real_values(const QuantizedWeights& weights) {
  Tensor values = kernels::convert(weights.values, DType::f32);
  if (weights.channel_scales) kernels::scale_rows_in_place(values, weights.channel_scales);
  return values;
}

Tensor cluster_values(const Clusters& clusters) {
  const Tensor& codes = clusters.codes;
  const std::int64_t rows = codes.dim(0), row_length = codes.numel() / rows;
  const std::int64_t length = clusters.size * (row_length / codes.dim(1));
  Tensor values = Tensor::empty(codes.shape(), DType::s8);
  const auto from = codes.span<std::int8_t>();
  const auto scales = clusters.scales.span<std::uint8_t>();
  const auto to = values.mutable_span<std::int8_t>();
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t i = 0; i < row_length; ++i) {
        const std::int64_t at = row * row_length + i;
        to[at] = static_cast<std::int8_t>(from[at] * scales[row * clusters.scales.dim(1) + i / length]);
      }
    }
  });
  return values;
}

}  // namespace faq
