#include "core/kernels/unit.h"

#include <algorithm>
#include <atomic>

#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// out = in, and whether nothing was lost.
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

// Half of a typical second-level cache of 1 MB per core.
std::int64_t images_per_slice(std::int64_t bytes_per_image) {
  constexpr std::int64_t bytes_per_thread = 1 << 19;
  const std::int64_t per_thread =
      std::max<std::int64_t>(1, bytes_per_thread / std::max<std::int64_t>(bytes_per_image, 1));
  return per_thread * num_threads();
}

// Accumulators of few bits nearly always fit into 16: half the memory to keep and to read four times. Where
// one does not, the batch goes on in 32.
Accumulators conv2d_integer_statistics(const Tensor& x, const Tensor& weights, const ConvOptions& options,
                                       Engine engine) {
  const Booked booked(Work::fused);
  const Shape shape = conv2d_shape(x.shape(), weights.shape(), options);
  const std::int64_t images = shape[0];
  const std::int64_t rows_per_image = shape[1] * shape[2];
  const std::int64_t slice = images_per_slice(rows_per_image * shape[3] * 4);
  StatisticsBuilder statistics(shape);
  Tensor narrowed = Tensor::empty(shape, DType::s16);
  Tensor wide;
  for (std::int64_t first = 0; first < images; first += slice) {
    const std::int64_t last = std::min(images, first + slice);
    const Tensor part = x.rows(first, last);
    if (wide) {
      Tensor sums = wide.rows(first, last);
      conv2d_integer(part, weights, options, engine, sums);
    } else {
      const Tensor sums = conv2d_integer(part, weights, options, engine);
      if (!narrow(sums, narrowed.rows(first, last))) {
        wide = Tensor::empty(shape, DType::s32);
        widen(narrowed.rows(0, first), wide.rows(0, first));
        std::ranges::copy(sums.span<std::int32_t>(), wide.rows(first, last).mutable_data<std::int32_t>());
        narrowed = {};
      }
    }
    statistics.add(wide ? wide : narrowed, last * rows_per_image);
  }
  Accumulators result{wide ? wide : narrowed, {}};
  const float step = x.fixed_point().step * weights.fixed_point().step;
  result.values.set_fixed_point({.step = step, .bits = wide ? 32 : 16, .is_signed = true});
  result.statistics = statistics.result(step);
  return result;
}

Tensor conv2d_requantize(const Tensor& x, const Tensor& weights, const ConvOptions& options, Engine engine,
                         const Tensor& residual, const Requantize& params) {
  const Shape shape = conv2d_shape(x.shape(), weights.shape(), options);
  check(!residual || residual.shape() == shape, "requantize: residual ", residual.shape(), " for ", shape);
  const std::int64_t images = shape[0];
  const std::int64_t slice = images_per_slice(shape[1] * shape[2] * shape[3] * 4);
  Tensor out = Tensor::empty(shape, params.format.is_signed ? DType::s8 : DType::u8, params.format);
  for (std::int64_t first = 0; first < images; first += slice) {
    const std::int64_t last = std::min(images, first + slice);
    const Tensor sums = conv2d_integer(x.rows(first, last), weights, options, engine);
    Tensor part = out.rows(first, last);
    requantize(sums, residual ? residual.rows(first, last) : Tensor(), params, part);
  }
  return out;
}

}  // namespace faq::kernels
