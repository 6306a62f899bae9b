// Quantized weights: the integers that kernels multiply, and the codes that files store.
#pragma once

#include "core/tensor.h"

namespace faq {

/// Groups of weights that share a scale (Mellempudi et al., arXiv 1701.08978, section 3): value = scale·code.
struct Clusters {
  std::int64_t size = 0;  ///< input channels per group; the last group of a row may have fewer
  Tensor codes;           ///< s8, the shape of the weights
  Tensor scales;          ///< u8 O,G, in units of the layer's scale
};

/// How the integers of a layer are stored in `bits` bits.
enum class WeightCode {
  fixed_point,  ///< the integers themselves: |q| ≤ 2^(bits − 1) − 1
  odd,          ///< DoReFa's: q = 2·n − (2^bits − 1) with n = 0 … 2^bits − 1
  clusters      ///< codes as in fixed_point, and a scale per group
};

struct QuantizedWeights {
  Tensor values;  ///< s8 with a scale: the integers that are multiplied
  int bits = 8;
  WeightCode code = WeightCode::fixed_point;
  Clusters clusters = {};  ///< only with WeightCode::clusters
  /// O, f32; a weight of output channel o is integer × scale × channel_scales[o]. Undefined: all are 1.
  Tensor channel_scales = {};
};

/// The real numbers that the weights stand for, f32.
Tensor real_values(const QuantizedWeights& weights);

/// Returns scale·code, s8.
Tensor cluster_values(const Clusters& clusters);

}  // namespace faq
