// The kernels of a quantized unit, fused by working through a batch in slices that stay in the cache.
#pragma once

#include <functional>
#include <optional>

#include "core/kernels/conv.h"
#include "core/kernels/norm.h"
#include "core/kernels/requantize.h"
#include "core/kernels/statistics.h"

namespace faq::kernels {

/// What a unit's convolution leaves behind.
struct Accumulators {
  Tensor values;  ///< s16 when every one of the batch fits, else s32; with scale x.scale·weights.scale
  std::optional<ChannelStatistics> statistics;
};

/// Integer convolution and, where they are wanted, the statistics of its output. x: u8 or s8, weights: s8,
/// both with a scale.
Accumulators conv2d_accumulators(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                                 Engine engine, bool want_statistics);

/// Deployment: requantize(conv2d_integer(x, weights), residual), slice by slice, into `out`, whose scale is
/// the caller's to set.
void conv2d_requantize(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                       Engine engine, const Tensor& residual, const Requantize& params, Tensor& out);

/// Images [first, last) of a batch. The slices of one share (of num_shares()) follow each other.
struct Slice {
  std::int64_t first;
  std::int64_t last;
  int share;

  Tensor of(const Tensor& batch) const { return batch ? batch.rows(first, last) : Tensor(); }
};

/// Calls body(slice) for slices of a batch, each so small that what it moves, `bytes_per_image` an image,
/// stays in the second-level cache, but worth reading `weight_bytes` for. With enough images every thread
/// goes through slices of its own and the kernels in the body run alone; else one slice follows the other and
/// each kernel uses all threads. Rethrows what the body throws.
void for_each_slice(std::int64_t images, std::int64_t bytes_per_image, std::int64_t weight_bytes,
                    const std::function<void(const Slice&)>& body);

}  // namespace faq::kernels
