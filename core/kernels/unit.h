// The kernels of a quantized unit, fused by working through a batch in slices that stay in the cache.
#pragma once

#include "core/kernels/conv.h"
#include "core/kernels/norm.h"
#include "core/kernels/requantize.h"
#include "core/kernels/statistics.h"

namespace faq::kernels {

/// What a unit's convolution leaves behind.
struct Accumulators {
  Tensor values;  ///< s16 when every one of the batch fits, else s32; with step x.step·weights.step
  ChannelStatistics statistics;
};

/// Integer convolution and the statistics of its output. x: u8 or s8, weights: s8, both with a step.
Accumulators conv2d_integer_statistics(const Tensor& x, const Tensor& weights, const ConvOptions& options,
                                       Engine engine);

/// Deployment: requantize(conv2d_integer(x, weights), residual), slice by slice.
Tensor conv2d_requantize(const Tensor& x, const Tensor& weights, const ConvOptions& options, Engine engine,
                         const Tensor& residual, const Requantize& params);

/// How many images of a batch make a slice when each moves `bytes_per_image`.
std::int64_t images_per_slice(std::int64_t bytes_per_image);

}  // namespace faq::kernels
