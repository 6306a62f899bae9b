// The kernels of a quantized unit. They are fused: a batch is processed in slices that stay in the cache.
#pragma once

#include <functional>
#include <optional>

#include "core/kernels/byte_tiles.h"
#include "core/kernels/conv.h"
#include "core/kernels/norm.h"
#include "core/kernels/requantize.h"
#include "core/kernels/statistics.h"

namespace faq::kernels {

/// The result of a unit's convolution.
struct Accumulators {
  /// s16 if all accumulators of the batch fit, else s32; scale x.scale·weights.scale, without the channel
  /// scales that weights may have.
  Tensor values;
  Tensor scales;  ///< C, f32: the scales with the channel scales; undefined if the weights have none
  std::optional<ChannelStatistics> statistics;
};

/// Integer convolution and, if wanted, the statistics of its output. x: u8 or s8, weights: s8, both with a
/// scale.
Accumulators conv2d_accumulators(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                                 Engine engine, bool want_statistics);

/// Deployment: requantize(conv2d_integer(x, weights), residual) into `out`, in tiles where there are any and
/// they suit (tiled_conv.h), else slice by slice. The caller sets the scale of `out`.
void conv2d_requantize(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                       Engine engine, const Tensor& residual, const Requantize& params, Tensor& out,
                       const ByteTiles* tiles = byte_tiles());

/// Images [first, last) of a batch. The slices of one share (of num_shares()) follow each other.
struct Slice {
  std::int64_t first;
  std::int64_t last;
  int share;

  Tensor of(const Tensor& batch) const { return batch ? batch.rows(first, last) : Tensor(); }
};

/// Calls body(slice) for slices of a batch. A slice is so small that the data it moves, `bytes_per_image` per
/// image, stays in the second-level cache, but large enough to be worth reading `weight_bytes`. With enough
/// images, every thread processes its own slices, and the kernels in the body run on one thread. Otherwise
/// the slices run one after the other, and each kernel uses all threads. All slices of a share but the last
/// have a multiple of `together` images. Rethrows what the body throws.
void for_each_slice(std::int64_t images, std::int64_t bytes_per_image, std::int64_t weight_bytes,
                    const std::function<void(const Slice&)>& body, std::int64_t together = 1);

/// A batch in groups of images, each a whole number of fours but for the last. They depend on the batch and
/// the layer alone, not on threads: a group's gradient has one scale, and its random bits and sums follow.
class ImageGroups {
 public:
  /// At most as many images as stay in the second-level cache, or as make it worth to read and write the
  /// weights: see for_each_slice(). There are 2, 4, 8, … groups, which threads share evenly, if there are as
  /// many fours.
  ImageGroups(std::int64_t images, std::int64_t bytes_per_image, std::int64_t weight_bytes);

  std::int64_t count() const { return count_; }
  std::int64_t begin(std::int64_t group) const;
  std::int64_t end(std::int64_t group) const { return begin(group + 1); }

  /// Calls body(group, share) for all groups, as for_each_slice() does it for slices; shares are of
  /// num_shares(count()).
  void for_each(const std::function<void(std::int64_t group, int share)>& body) const;

 private:
  std::int64_t images_, count_;
};

}  // namespace faq::kernels
