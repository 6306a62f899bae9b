#include "core/kernels/conv.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/conv_primitives.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/rounding.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t max_filter_of_bytes = (std::int64_t{1} << 31) / (255 * 128);  ///< sums fit into s32

using onednn::weight_cache;
using onednn::WeightCache;

// Of the weights of an output channel: the sums and the numbers of those of either sign.
struct Magnitudes {
  int largest = 0;
  std::int32_t positive = 0, negative = 0;
  std::int32_t positives = 0, negatives = 0;
};
FAQ_SIMD Magnitudes magnitudes(const std::int8_t* w, std::int64_t n) {
  std::int32_t largest = 0, sum = 0, total = 0, positives = 0, nonzero = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t weight = w[i];
    const std::int32_t magnitude = weight < 0 ? -weight : weight;
    largest = magnitude > largest ? magnitude : largest;
    sum += weight;
    total += magnitude;
    positives += weight > 0 ? 1 : 0;
    nonzero += weight != 0 ? 1 : 0;
  }
  return {largest, (total + sum) / 2, (total - sum) / 2, positives, nonzero - positives};
}

// A bound of the sums over a channel after division into `parts`: rounding adds less than one to each weight.
std::int64_t bound_of_part(const Magnitudes& m, std::int64_t parts) {
  return std::max(m.positive + m.positives * (parts - 1), m.negative + m.negatives * (parts - 1)) / parts;
}

// out = (|w| + offset) / parts, rounded down, with the sign of w.
FAQ_SIMD void divide_weights(const std::int8_t* w, int offset, int parts, std::int8_t* out, std::int64_t n) {
  const float divisor = static_cast<float>(parts);
  for (std::int64_t i = 0; i < n; ++i) {
    const int magnitude = w[i] < 0 ? -w[i] : w[i];
    // Exact: both are small integers, and a quotient that is none is not rounded to one.
    const int part = static_cast<int>(static_cast<float>(magnitude + offset) / divisor);
    out[i] = static_cast<std::int8_t>(w[i] < 0 ? -part : part);
  }
}

// x + 128 as u8, with a border that stands for zero.
Tensor shifted_and_padded(const Tensor& x, const Padding& padding) {
  const std::int64_t height = x.dim(1) + padding.top + padding.bottom;
  const std::int64_t width = x.dim(2) + padding.left + padding.right;
  const std::int64_t channels = x.dim(3);
  Tensor out = Tensor::empty({x.dim(0), height, width, channels}, DType::u8);
  std::uint8_t* to = out.mutable_data<std::uint8_t>();
  const std::int8_t* from = x.data<std::int8_t>();
  parallel_for(x.dim(0), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t n = begin; n < end; ++n) {
      std::uint8_t* image = to + n * height * width * channels;
      std::memset(image, 128, static_cast<std::size_t>(height * width * channels));
      for (std::int64_t y = 0; y < x.dim(1); ++y) {
        const std::int8_t* row = from + (n * x.dim(1) + y) * x.dim(2) * channels;
        std::uint8_t* target = image + ((y + padding.top) * width + padding.left) * channels;
        for (std::int64_t i = 0; i < x.dim(2) * channels; ++i)
          target[i] = static_cast<std::uint8_t>(row[i] ^ 0x80);
      }
    }
  });
  return out;
}

Tensor shift_correction(const Tensor& weights) {
  const std::lock_guard lock(onednn::weight_cache_mutex());
  Tensor& correction = weight_cache(weights).shift_correction;
  if (!correction) {
    correction = Tensor::empty({weights.dim(0)}, DType::s32);
    const std::int64_t length = weights.numel() / weights.dim(0);
    const std::int8_t* w = weights.data<std::int8_t>();
    std::int32_t* out = correction.mutable_data<std::int32_t>();
    for (std::int64_t o = 0; o < weights.dim(0); ++o) {
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < length; ++i) sum += w[o * length + i];
      out[o] = -128 * sum;
    }
  }
  return correction;
}

// Into how many addends the weights must be split for every sum to be exact. The magnitudes of a weight's
// parts differ by at most one; the first is the largest.
int parts_needed(const Tensor& weights, int max_input, int max_magnitude) {
  constexpr std::int64_t max_filter = std::int64_t{1} << 23;  // the sums of a filter fit into 32 bits
  const std::int8_t* w = weights.data<std::int8_t>();
  const std::int64_t channels = weights.dim(0);
  const std::int64_t length = weights.numel() / std::max<std::int64_t>(channels, 1);
  // What the format allows may be enough.
  if (weights.is_fixed_point() && weights.fixed_point().max() <= max_magnitude &&
      length * weights.fixed_point().max() * max_input < f32_integers)
    return 1;
  check(length <= max_filter, ErrorKind::internal, "integer convolution: filters of ", weights.shape());
  std::vector<Magnitudes> of_channel(channels);
  parallel_for(channels, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) of_channel[o] = magnitudes(w + o * length, length);
  });
  for (int parts = 1; parts <= 128; ++parts) {
    if (std::ranges::all_of(of_channel, [&](const Magnitudes& m) {
          return (m.largest + parts - 1) / parts <= max_magnitude &&
                 bound_of_part(m, parts) * max_input < f32_integers;
        }))
      return parts;
  }
  fail(ErrorKind::internal, "integer convolution: weights ", weights.shape(),
       " are too many for exact 32-bit sums");
}

std::vector<Tensor> divided(const Tensor& weights, int parts) {
  const std::int8_t* w = weights.data<std::int8_t>();
  std::vector<Tensor> addends;
  for (int part = 0; part < parts; ++part) {
    Tensor addend = Tensor::empty(weights.shape(), DType::s8);
    std::int8_t* out = addend.mutable_data<std::int8_t>();
    parallel_for(weights.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      divide_weights(w + begin, parts - 1 - part, parts, out + begin, end - begin);
    });
    addends.push_back(std::move(addend));
  }
  return addends;
}

// Precondition: the lock of the caches is held.
WeightCache::Addends& addends_entry(const Tensor& weights, int max_input, int max_magnitude) {
  auto& known = weight_cache(weights).addends;
  const auto entry = std::ranges::find_if(known, [&](const WeightCache::Addends& a) {
    return a.max_input == max_input && a.max_magnitude == max_magnitude;
  });
  if (entry != known.end()) return *entry;
  known.push_back({max_input, max_magnitude, parts_needed(weights, max_input, max_magnitude), {}});
  return known.back();
}

int cached_parts_needed(const Tensor& weights, int max_input, int max_magnitude) {
  const std::lock_guard lock(onednn::weight_cache_mutex());
  return addends_entry(weights, max_input, max_magnitude).parts;
}

std::vector<Tensor> cached_addends(const Tensor& weights, int max_input, int max_magnitude) {
  const std::lock_guard lock(onednn::weight_cache_mutex());
  WeightCache::Addends& addends = addends_entry(weights, max_input, max_magnitude);
  if (addends.tensors.empty()) addends.tensors = divided(weights, addends.parts);
  return addends.tensors;
}

// Whether each is below the limit beyond which an f32 need not be the integer it was.
FAQ_SIMD bool are_below(std::int32_t limit, const std::int32_t* sums, std::int64_t n) {
  std::int32_t beyond = 0;
  for (std::int64_t i = 0; i < n; ++i) beyond |= (sums[i] >= limit) | (sums[i] <= -limit);
  return beyond == 0;
}

bool are_f32_integers(const Tensor& sums) {
  const std::int32_t* values = sums.data<std::int32_t>();
  std::atomic<bool> all = true;
  parallel_for(sums.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    if (!are_below(static_cast<std::int32_t>(f32_integers), values + begin, end - begin))
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

// An integer convolution made ready: its images as the engine's kernel reads them, and the bounds within
// which weights give exact sums with them.
struct IntegerConvolution {
  IntegerConvolution(const Tensor& x, const ConvGeometry& wanted, Engine engine)
      : integer(engine == Engine::integer),
        is_signed(x.dtype() == DType::s8),
        geometry(wanted),
        max_input(largest_input(x)),
        max_magnitude(integer && !has_vnni() ? 64 : 128) {
    if (!integer) {
      source = convert_unscaled(x, DType::f32);
    } else if (is_signed) {
      source = shifted_and_padded(x, geometry.padding);
      geometry.padding = 0;
    } else {
      source = x;
    }
  }

  /// Exact for weights within the bounds.
  void run(const Tensor& weights, Tensor& sums) const {
    if (integer) {
      onednn::convolve(source, weights, is_signed ? shift_correction(weights) : Tensor(), geometry, sums);
    } else {
      round_to_s32(conv2d(source, convert_unscaled(weights, DType::f32), geometry), sums);
    }
  }

  /// Whether of weights beyond the bounds, too, every sum below 2^24 is exact. (Not of signed inputs: their
  /// correction is added in f32, which the result does not show.)
  bool may_try_whole(const Tensor& weights) const {
    return integer && !is_signed && has_vnni() && weights.numel() / weights.dim(0) <= max_filter_of_bytes &&
           rounds_results_alone(source.shape(), weights.shape(), geometry);
  }

  bool integer, is_signed;
  ConvGeometry geometry;
  int max_input, max_magnitude;
  Tensor source;

 private:
  // A signed input reaches the integer kernel as u8. In f32 it adds up to no more than one twice as wide that
  // is not signed.
  int largest_input(const Tensor& x) const {
    if (is_signed && integer) return 255;
    if (is_signed) return 2 * (x.is_fixed_point() ? x.fixed_point().max() : 128);
    return x.is_fixed_point() ? x.fixed_point().max() : 255;
  }
};

}  // namespace

Tensor conv2d(const Tensor& x, const Tensor& weights, const ConvGeometry& geometry) {
  check(x.dtype() == weights.dtype(), "conv2d: input ", x.dtype(), ", weights ", weights.dtype());
  Tensor y = Tensor::empty(conv2d_shape(x.shape(), weights.shape(), geometry));
  onednn::convolve(x, weights, {}, geometry, y);
  return y;
}

std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude) {
  const int parts = parts_needed(weights, max_input, max_magnitude);
  return parts == 1 ? std::vector{weights} : divided(weights, parts);
}

Tensor conv2d_integer(const Tensor& x, const Tensor& weights, const ConvGeometry& geometry, Engine engine) {
  Tensor y = Tensor::empty(conv2d_shape(x.shape(), weights.shape(), geometry), DType::s32);
  conv2d_integer(x, weights, geometry, engine, y);
  return y;
}

void conv2d_integer(const Tensor& x, const Tensor& weights, const ConvGeometry& geometry, Engine engine,
                    Tensor& y) {
  check(x.dtype() == DType::u8 || x.dtype() == DType::s8, "integer convolution: input u8 or s8, got ",
        x.dtype());
  check(weights.dtype() == DType::s8, "integer convolution: weights s8, got ", weights.dtype());
  check(y.dtype() == DType::s32 && y.shape() == conv2d_shape(x.shape(), weights.shape(), geometry),
        "integer convolution: no place for the sums in ", y.dtype(), " ", y.shape());
  const IntegerConvolution conv(x, geometry, engine);
  if (cached_parts_needed(weights, conv.max_input, conv.max_magnitude) == 1) return conv.run(weights, y);
  // Weights that could lead beyond the limit seldom do.
  if (conv.may_try_whole(weights)) {
    conv.run(weights, y);
    if (are_f32_integers(y)) return;
  }
  const std::vector<Tensor> addends = cached_addends(weights, conv.max_input, conv.max_magnitude);
  conv.run(addends.front(), y);
  for (std::size_t i = 1; i < addends.size(); ++i) {
    Tensor more = Tensor::empty(y.shape(), DType::s32);
    conv.run(addends[i], more);
    add_s32_in_place(y, more);
  }
}

Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weights, const Shape& x,
                            const ConvGeometry& geometry, DType dtype) {
  Tensor dx = Tensor::empty(x, dtype);
  conv2d_backward_data(dy, weights, geometry, dx);
  return dx;
}

void conv2d_backward_data(const Tensor& dy, const Tensor& weights, const ConvGeometry& geometry, Tensor& dx) {
  check(dy.dtype() == weights.dtype(), "conv2d backward: gradient ", dy.dtype(), ", weights ",
        weights.dtype());
  check(dy.shape() == conv2d_shape(dx.shape(), weights.shape(), geometry), "conv2d backward: gradient ",
        dy.shape(), " for an input of ", dx.shape());
  onednn::convolve_backward_data(dy, weights, geometry, dx);
}

}  // namespace faq::kernels
