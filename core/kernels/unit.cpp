#include "core/kernels/unit.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <mutex>
#include <vector>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/requantizer.h"
#include "core/kernels/simd.h"
#include "core/kernels/tiled_conv.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// out = in. Returns true if no value was changed.
FAQ_SIMD bool narrow_block(const std::int32_t* in, std::int16_t* out, std::int64_t n) {
  std::int32_t lost = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<std::int16_t>(in[i]);
    lost |= in[i] ^ out[i];
  }
  return lost == 0;
}
FAQ_SIMD void widen_block(const std::int16_t* in, std::int32_t* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i];
}

constexpr std::int64_t grain = 1 << 14;

constexpr std::int64_t cache_bytes = 1 << 19;  ///< half of a typical second-level cache of 1 MB per core

std::int64_t images_together(std::int64_t bytes_per_image, std::int64_t weight_bytes) {
  return std::max<std::int64_t>(
      1, std::max(cache_bytes, 2 * weight_bytes) / std::max<std::int64_t>(bytes_per_image, 1));
}

bool narrow(const Tensor& from, Tensor to) {
  const std::int32_t* in = from.data<std::int32_t>();
  std::int16_t* out = to.mutable_data<std::int16_t>();
  std::atomic<bool> fits = true;
  parallel_for(from.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    if (!narrow_block(in + begin, out + begin, end - begin)) fits.store(false, std::memory_order_relaxed);
  });
  return fits;
}

void widen(const Tensor& from, Tensor to) {
  const std::int16_t* in = from.data<std::int16_t>();
  std::int32_t* out = to.mutable_data<std::int32_t>();
  parallel_for(from.numel(), grain, [&](std::int64_t begin, std::int64_t end) {
    widen_block(in + begin, out + begin, end - begin);
  });
}

}  // namespace

void for_each_slice(std::int64_t images, std::int64_t bytes_per_image, std::int64_t weight_bytes,
                    const std::function<void(const Slice&)>& body, std::int64_t together) {
  const std::int64_t per_thread = divided_up(images_together(bytes_per_image, weight_bytes), together);
  parallel_shares(images, [&](std::int64_t begin, std::int64_t end, int share) {
    const std::int64_t longest = per_thread * num_threads();  // num_threads() is one here, or all
    const std::int64_t n = divided_up(end - begin, together);
    const std::int64_t slices = divided_up(n, longest);
    const auto place = [&](std::int64_t i) { return std::min(begin + n * i / slices * together, end); };
    for (std::int64_t i = 0; i < slices; ++i) body({place(i), place(i + 1), share});
  });
}

ImageGroups::ImageGroups(std::int64_t images, std::int64_t bytes_per_image, std::int64_t weight_bytes)
    : images_(images) {
  const std::int64_t together = images_together(bytes_per_image, weight_bytes);
  const std::int64_t longest = std::max<std::int64_t>(4, together / 4 * 4);
  const auto needed = static_cast<std::uint64_t>(divided_up(images, longest));
  const std::int64_t quads = (images + 3) / 4;
  count_ = std::min(static_cast<std::int64_t>(std::bit_ceil(needed)), quads);
}

std::int64_t ImageGroups::begin(std::int64_t group) const {
  const std::int64_t quads = (images_ + 3) / 4;
  return std::min(images_, quads * group / count_ * 4);
}

void ImageGroups::for_each(const std::function<void(std::int64_t, int)>& body) const {
  parallel_shares(count_, [&](std::int64_t first, std::int64_t past, int share) {
    for (std::int64_t group = first; group < past; ++group) body(group, share);
  });
}

// With few bits, accumulators nearly always fit into 16 bits. That halves the memory they take and the four
// times they are read. From the first slice that does not fit, all are kept in 32 bits.
Accumulators conv2d_accumulators(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                                 Engine engine, bool want_statistics) {
  const Booked booked(Work::fused);
  const Shape shape = conv2d_shape(x.shape(), weights.filter_shape(), geometry);
  const std::int64_t images = shape[0];
  const std::int64_t rows_per_image = shape[1] * shape[2];
  std::optional<StatisticsBuilder> statistics;
  if (want_statistics) statistics.emplace(shape);
  const Tensor narrowed = Tensor::empty(shape, DType::s16);
  Tensor wide;
  std::atomic<bool> is_wide = false;
  std::mutex widening;
  std::vector<char> in_wide(images);
  weights.prepare(x.dtype(), geometry.groups);
  for_each_slice(images, rows_per_image * shape[3] * 4, weights.filter_shape().numel(),
                 [&](const Slice& slice) {
                   const Tensor part = slice.of(x);
                   const auto add_to_statistics = [&](const Tensor& values) {
                     if (statistics)
                       statistics->add(values, slice.first * rows_per_image, slice.last * rows_per_image);
                   };
                   const auto keep_wide = [&] {
                     std::fill(in_wide.begin() + slice.first, in_wide.begin() + slice.last, 1);
                     add_to_statistics(wide);
                   };
                   if (is_wide) {
                     Tensor sums = slice.of(wide);
                     conv2d_integer(part, weights, geometry, engine, sums);
                     return keep_wide();
                   }
                   const Tensor sums = conv2d_integer(part, weights, geometry, engine);
                   if (narrow(sums, slice.of(narrowed))) return add_to_statistics(narrowed);
                   {
                     const std::lock_guard lock(widening);
                     if (!is_wide) wide = Tensor::empty(shape, DType::s32);
                     is_wide = true;
                   }
                   std::ranges::copy(sums.span<std::int32_t>(), slice.of(wide).mutable_data<std::int32_t>());
                   keep_wide();
                 });
  for (std::int64_t i = 0; is_wide && i < images; ++i) {
    if (!in_wide[i]) widen(narrowed.rows(i, i + 1), wide.rows(i, i + 1));
  }
  Accumulators result{is_wide ? wide : narrowed, {}, {}};
  const float scale = x.fixed_point().scale * weights.values().fixed_point().scale;
  result.values.set_fixed_point({.scale = scale, .bits = is_wide ? 32 : 16, .is_signed = true});
  if (statistics) result.statistics = statistics->finish(result.values, scale);
  if (!weights.channel_scales()) return result;
  const auto factors = weights.channel_scales().span<float>();
  result.scales = Tensor::full({shape[3]}, scale);
  float* scales = result.scales.mutable_data<float>();
  float* mean = statistics ? result.statistics->mean.mutable_data<float>() : nullptr;
  float* variance = statistics ? result.statistics->variance.mutable_data<float>() : nullptr;
  for (std::size_t c = 0; c < factors.size(); ++c) {
    scales[c] *= factors[c];
    if (mean) mean[c] *= factors[c];
    if (variance) variance[c] *= factors[c] * factors[c];
  }
  return result;
}

void conv2d_requantize(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                       Engine engine, const Tensor& residual, const Requantize& params, Tensor& out,
                       const ByteTiles* tiles) {
  const Shape shape = conv2d_shape(x.shape(), weights.filter_shape(), geometry);
  check(!residual || residual.shape() == shape, "requantize: residual ", residual.shape(), " for ", shape);
  expect_place("convolution", out, shape, params.format.is_signed ? DType::s8 : DType::u8);
  const Requantizer requantizer(params, shape[3]);
  if (tiles && engine == Engine::integer && pays_in_tiles(weights.forms(), geometry, *tiles))
    return conv2d_in_tiles(x, weights.forms(), geometry, *tiles, requantizer, residual, out);
  for_each_slice(shape[0], shape[1] * shape[2] * shape[3] * 4, weights.filter_shape().numel(),
                 [&](const Slice& slice) {
                   const Tensor sums = conv2d_integer(slice.of(x), weights, geometry, engine);
                   Tensor part = slice.of(out);
                   requantizer(sums, slice.of(residual), part);
                 });
}

}  // namespace faq::kernels
