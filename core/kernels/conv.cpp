#include "core/kernels/conv.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/conv_primitives.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/exact_addends.h"
#include "core/kernels/rounding.h"
#include "core/kernels/signed_images.h"
#include "core/kernels/simd.h"
#include "core/kernels/weight_forms.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t max_filter_of_bytes = (std::int64_t{1} << 31) / (255 * 128);  ///< sums fit into s32

// True if the magnitude of each sum is below the limit.
FAQ_SIMD bool are_below(std::int32_t limit, const std::int32_t* sums, std::int64_t n) {
  std::int32_t beyond = 0;
  for (std::int64_t i = 0; i < n; ++i) beyond |= (sums[i] >= limit) | (sums[i] <= -limit);
  return beyond == 0;
}

bool are_below(std::int64_t limit, const Tensor& sums) {
  const std::int32_t* values = sums.data<std::int32_t>();
  std::atomic<bool> all = true;
  parallel_for(sums.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    if (!are_below(static_cast<std::int32_t>(limit), values + begin, end - begin))
      all.store(false, std::memory_order_relaxed);
  });
  return all;
}

void round_to_s32(const Tensor& x, Tensor& out) {
  const float* from = x.data<float>();
  std::int32_t* to = out.mutable_data<std::int32_t>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[i] = static_cast<std::int32_t>(from[i]);
  });
}

// A prepared integer convolution: its images as the engine's kernel reads them, and the bounds within which
// weights give exact sums with them.
struct IntegerConvolution {
  IntegerConvolution(const Tensor& x, const ConvGeometry& wanted, Engine engine)
      : integer(engine == Engine::integer),
        is_signed(x.dtype() == DType::s8),
        is_copied(integer && is_signed && !takes_signed_images(wanted)),
        geometry(wanted),
        max_input(largest_input(x)),
        max_magnitude(integer && !has_vnni() ? 64 : 128) {
    if (!integer) {
      source = convert_unscaled(x, DType::f32);
    } else if (is_copied) {
      source = shifted_and_padded(x, geometry.padding);
      geometry.padding = 0;
    } else {
      source = x;
    }
  }

  /// Runs the convolution. It is exact for weights within the bounds.
  void run(WeightForms& weights, Tensor& sums) const {
    if (integer) {
      onednn::convolve(source, weights, is_copied ? weights.shift_correction() : Tensor(), geometry, sums);
    } else {
      Tensor y = Tensor::empty(sums.shape());
      onednn::convolve(source, *weights.integers_as(DType::f32), {}, geometry, y);
      round_to_s32(y, sums);
    }
  }

  /// Below it a result is exact even when the weights exceed the bounds; 0: none is sure to be. The sum that
  /// is rounded has signed images shifted by 128, so it may be larger than the result by 128·Σ of some
  /// weights. Rounded it is off by at most 2^7.
  std::int64_t limit_of_whole(WeightForms& weights) const {
    const Shape& shape = weights.shape();
    if (!integer || !has_vnni() || shape.numel() / shape[0] > max_filter_of_bytes ||
        !rounds_results_alone(source.shape(), source.dtype(), shape, is_copied, geometry))
      return 0;
    const std::int64_t shifted = is_signed ? 128 * weights.largest_window_sum() + 128 : 0;
    return std::max<std::int64_t>(f32_integers - shifted, 0);
  }

  bool integer, is_signed;
  bool is_copied;  ///< the source is a copy, shifted by 128 and with its border
  ConvGeometry geometry;
  int max_input, max_magnitude;
  Tensor source;

 private:
  // A signed input reaches the integer kernel as u8. In f32, its sums are no larger than those of an unsigned
  // input with twice the range.
  int largest_input(const Tensor& x) const {
    if (is_signed && integer) return 255;
    if (is_signed) return 2 * (x.is_fixed_point() ? x.fixed_point().max() : 128);
    return x.is_fixed_point() ? x.fixed_point().max() : 255;
  }
};

// True for several images of one pixel, as fully connected layers have them.
bool are_pixels(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  return x[0] > 1 && x[1] == 1 && x[2] == 1 && weights[2] == 1 && weights[3] == 1 &&
         geometry.padding == Padding(0);
}

Tensor as_one_image(const Tensor& pixels) { return pixels.reshaped({1, 1, pixels.dim(0), pixels.dim(3)}); }

}  // namespace

Tensor conv2d(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry) {
  check(x.dtype() == weights.dtype(), "conv2d: input ", x.dtype(), ", weights ", weights.dtype());
  Tensor y = Tensor::empty(conv2d_shape(x.shape(), weights.filter_shape(), geometry));
  onednn::convolve(x, weights.forms(), {}, geometry, y);
  return y;
}

Tensor conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                      Engine engine) {
  Tensor y = Tensor::empty(conv2d_shape(x.shape(), weights.filter_shape(), geometry), DType::s32);
  conv2d_integer(x, weights, geometry, engine, y);
  return y;
}

void conv2d_integer(const Tensor& x, const PackedWeights& weights, const ConvGeometry& geometry,
                    Engine engine, Tensor& y) {
  conv2d_integer(x, weights.forms(), geometry, engine, y);
}

void conv2d_integer(const Tensor& x, WeightForms& whole, const ConvGeometry& geometry, Engine engine,
                    Tensor& y) {
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "integer convolution: input u8 or s8, got ",
        x.dtype());
  check(whole.dtype() == DType::s8, "integer convolution: weights s8, got ", whole.dtype());
  check(y.dtype() == DType::s32 && y.shape() == conv2d_shape(x.shape(), whole.shape(), geometry),
        "integer convolution: no place for the sums in ", y.dtype(), " ", y.shape());
  if (are_pixels(x.shape(), whole.shape(), geometry)) {  // oneDNN reads the weights for each image
    Tensor sums = as_one_image(y);
    ConvGeometry of_row = geometry;
    of_row.stride = 1;
    return conv2d_integer(as_one_image(x), whole, of_row, engine, sums);
  }
  const IntegerConvolution conv(x, geometry.of(whole.shape()), engine);
  if (whole.exact_parts(conv.max_input, conv.max_magnitude) == 1) return conv.run(whole, y);
  // Weights that could exceed the limit seldom do.
  if (const std::int64_t limit = conv.limit_of_whole(whole); limit > 0) {
    conv.run(whole, y);
    if (are_below(limit, y)) return;
  }
  const auto addends = whole.addends(conv.max_input, conv.max_magnitude);
  conv.run(*addends.front(), y);
  for (std::size_t i = 1; i < addends.size(); ++i) {
    Tensor more = Tensor::empty(y.shape(), DType::s32);
    conv.run(*addends[i], more);
    add_s32_in_place(y, more);
  }
}

Tensor conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const Shape& x,
                            const ConvGeometry& geometry, DType dtype) {
  Tensor dx = Tensor::empty(x, dtype);
  conv2d_backward_data(dy, weights, geometry, dx);
  return dx;
}

void conv2d_backward_data(const Tensor& dy, const PackedWeights& weights, const ConvGeometry& geometry,
                          Tensor& dx) {
  check(dy.dtype() == weights.dtype(), "conv2d backward: gradient ", dy.dtype(), ", weights ",
        weights.dtype());
  check(dy.shape() == conv2d_shape(dx.shape(), weights.filter_shape(), geometry),
        "conv2d backward: gradient ", dy.shape(), " for an input of ", dx.shape());
  onednn::convolve_backward_data(dy, weights.forms(), geometry, dx);
}

}  // namespace faq::kernels
