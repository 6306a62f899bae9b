#include "core/kernels/elementwise.h"

#include <Eigen/Core>
#include <algorithm>
#include <array>
#include <numeric>
#include <vector>

#include "core/aligned_vector.h"
#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

struct alignas(cache_line) Block : std::array<float, block_length> {};

FAQ_SIMD void multiply_block(float* x, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}
FAQ_SIMD void add_block(float* x, const float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += y[i];
}
FAQ_SIMD void move_block(float* x, const float* y, float share, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += share * (y[i] - x[i]);
}
FAQ_SIMD void add_s32_block(std::int32_t* x, const std::int32_t* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += y[i];
}
FAQ_SIMD void quantize_block(float* x, float inverse_scale, float low, float high, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    x[i] = round_half_even_in_range(clamped(x[i] * inverse_scale, low, high));
  }
}
template <class Q>
[[gnu::always_inline]] inline void quantize_loop(const float* x, float inverse_scale, float low, float high,
                                                 Q* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float q = round_half_even_in_range(clamped(x[i] * inverse_scale, low, high));
    out[i] = static_cast<Q>(static_cast<std::int32_t>(q));
  }
}
FAQ_SIMD void quantize_f32(const float* x, float inverse_scale, float low, float high, std::int8_t* out,
                           std::int64_t n) {
  quantize_loop(x, inverse_scale, low, high, out, n);
}
FAQ_SIMD void quantize_f32(const float* x, float inverse_scale, float low, float high, std::uint8_t* out,
                           std::int64_t n) {
  quantize_loop(x, inverse_scale, low, high, out, n);
}
FAQ_SIMD void mask_block(float* grad, const float* x, float low, float high, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) grad[i] = (x[i] >= low && x[i] <= high) ? grad[i] : 0.0f;
}
FAQ_SIMD void keep_block(float* x, const std::uint8_t* keep, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = keep[i] ? x[i] * factor : 0.0f;
}
FAQ_SIMD void relu_block(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = x[i] < 0.0f ? 0.0f : x[i];
}
FAQ_SIMD void relu_mask_block(float* dy, const float* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dy[i] = y[i] > 0.0f ? dy[i] : 0.0f;
}

// Each product is exact in double. The lanes keep the order of the sum.
FAQ_SIMD double sum_of_squares(const float* x, std::int64_t n) {
  constexpr int lanes = 32;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    for (int lane = 0; lane < lanes; ++lane) {
      const double value = x[i + lane];
      sums[lane] += value * value;
    }
  }
  double total = 0;
  for (; i < n; ++i) total += static_cast<double>(x[i]) * x[i];
  for (const double sum : sums) total += sum;
  return total;
}

/// out = f(block of x), in parallel.
template <class Body>
void for_each_block(const Tensor& x, void* out, DType out_dtype, Body body) {
  const std::int64_t n = x.numel();
  const std::int64_t blocks = divided_up(n, block_length);
  parallel_for(blocks, 8, [&](std::int64_t begin, std::int64_t end) {
    Block values;
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = b * block_length;
      const std::int64_t length = std::min(block_length, n - offset);
      load_block(x, offset, length, values.data());
      body(values.data(), offset, length);
      store_block(out, out_dtype, offset, length, values.data());
    }
  });
}

template <class Body>
Tensor map(const Tensor& x, Tensor out, Body body) {
  for_each_block(x, out.mutable_raw(), out.dtype(), body);
  return out;
}

bool is_floating(DType dtype) { return dtype == DType::f32 || dtype == DType::bf16; }

}  // namespace

namespace {

// Computes in double, because accumulators can have more digits than f32. Double rounds the product of sum
// and ratio by less than a tie could show. The ratio itself is inexact where the scale of a mean is (see
// mean_format). Then a mean at a tie of the formula may round either way, the same in training and
// deployment. For small tensors only (pooled sums).
Tensor quantize_s32(const Tensor& x, const FixedPoint& format) {
  Tensor q = Tensor::empty(x.shape(), format.is_signed ? DType::s8 : DType::u8, format);
  const double ratio = static_cast<double>(scale_of(x)) / format.scale;
  void* out = q.mutable_raw();
  for (std::int64_t i = 0; i < x.numel(); ++i) {
    const double rounded = round_half_even(x.data<std::int32_t>()[i] * ratio);
    const auto value = static_cast<float>(std::clamp<double>(rounded, format.min(), format.max()));
    store_block(out, q.dtype(), i, 1, &value);
  }
  return q;
}

// From f32 straight to bytes, as weights are at every step.
template <class Q>
Tensor quantized_f32(const Tensor& x, const FixedPoint& format) {
  Tensor out = Tensor::empty(x.shape(), dtype_of<Q>, format);
  const float inverse_scale = 1.0f / format.scale;
  const auto low = static_cast<float>(format.min()), high = static_cast<float>(format.max());
  const float* from = x.data<float>();
  Q* to = out.mutable_data<Q>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    quantize_f32(from + begin, inverse_scale, low, high, to + begin, end - begin);
  });
  return out;
}

}  // namespace

Tensor convert(const Tensor& x, DType dtype) {
  const Booked booked(Work::fused);
  check(is_floating(dtype), "convert: to f32 or bf16, not ", dtype);
  if (x.dtype() == dtype) return x;
  const float scale = scale_of(x);
  return map(x, Tensor::empty(x.shape(), dtype), [scale](float* v, std::int64_t, std::int64_t n) {
    if (scale != 1.0f) multiply_block(v, scale, n);
  });
}

Tensor convert_unscaled(const Tensor& x, DType dtype) {
  const Booked booked(Work::fused);
  check(is_floating(dtype), "convert: to f32 or bf16, not ", dtype);
  return map(x, Tensor::empty(x.shape(), dtype), [](float*, std::int64_t, std::int64_t) {});
}

Tensor add(const Tensor& x, const Tensor& y) {
  const Booked booked(Work::fused);
  check(x.shape() == y.shape() && is_floating(x.dtype()) && is_floating(y.dtype()),
        "add: expected two floating tensors of one shape, got ", x.dtype(), " ", x.shape(), " and ",
        y.dtype(), " ", y.shape());
  return map(x, Tensor::empty(x.shape(), x.dtype()), [&](float* v, std::int64_t offset, std::int64_t n) {
    Block other;
    load_block(y, offset, n, other.data());
    add_block(v, other.data(), n);
  });
}

void add_in_place(Tensor& x, const Tensor& y) {
  const Booked booked(Work::fused);
  check(x.shape() == y.shape() && is_floating(x.dtype()) && is_floating(y.dtype()),
        "add: expected two floating tensors of one shape, got ", x.dtype(), " ", x.shape(), " and ",
        y.dtype(), " ", y.shape());
  if (x.dtype() == DType::f32 && y.dtype() == DType::f32) {
    float* out = x.mutable_data<float>();
    const float* in = y.data<float>();
    return parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      add_block(out + begin, in + begin, end - begin);
    });
  }
  for_each_block(x, x.mutable_raw(), x.dtype(), [&](float* v, std::int64_t offset, std::int64_t n) {
    Block other;
    load_block(y, offset, n, other.data());
    add_block(v, other.data(), n);
  });
}

void add_s32_in_place(Tensor& x, const Tensor& y) {
  check(x.shape() == y.shape(), "add: shapes ", x.shape(), " and ", y.shape());
  std::int32_t* out = x.mutable_data<std::int32_t>();
  const std::int32_t* in = y.data<std::int32_t>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    add_s32_block(out + begin, in + begin, end - begin);
  });
}

void scale_in_place(Tensor& x, float factor) {
  if (x.dtype() == DType::bf16) {
    return for_each_block(x, x.mutable_raw(), x.dtype(),
                          [factor](float* v, std::int64_t, std::int64_t n) { multiply_block(v, factor, n); });
  }
  float* values = x.mutable_data<float>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    multiply_block(values + begin, factor, end - begin);
  });
}

void move_towards(Tensor& x, const Tensor& y, float share) {
  check(x.shape() == y.shape(), "average: shapes ", x.shape(), " and ", y.shape());
  float* out = x.mutable_data<float>();
  const float* in = y.data<float>();
  parallel_for(x.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
    move_block(out + begin, in + begin, share, end - begin);
  });
}

Tensor masked(const Tensor& x, const Tensor& keep, float factor) {
  const Booked booked(Work::fused);
  check(keep.shape() == x.shape(), "mask ", keep.shape(), " for ", x.shape());
  Tensor out = Tensor::empty(x.shape(), x.dtype());
  if (!is_floating(x.dtype())) {
    FixedPoint format = x.fixed_point();
    format.scale *= factor;
    out.set_fixed_point(format);
    factor = 1.0f;
  }
  const auto* bytes = keep.data<std::uint8_t>();
  return map(x, out, [=](float* v, std::int64_t offset, std::int64_t n) {
    keep_block(v, bytes + offset, factor, n);
  });
}

Tensor quantize(const Tensor& x, const FixedPoint& format) {
  if (x.dtype() == DType::s32) return quantize_s32(x, format);
  if (x.dtype() == DType::f32 && !x.is_fixed_point())
    return format.is_signed ? quantized_f32<std::int8_t>(x, format) : quantized_f32<std::uint8_t>(x, format);
  const DType dtype = format.is_signed ? DType::s8 : DType::u8;
  const float scale = scale_of(x);
  const float inverse_scale = 1.0f / format.scale;
  const auto low = static_cast<float>(format.min());
  const auto high = static_cast<float>(format.max());
  return map(x, Tensor::empty(x.shape(), dtype, format), [=](float* v, std::int64_t, std::int64_t n) {
    if (scale != 1.0f) multiply_block(v, scale, n);
    quantize_block(v, inverse_scale, low, high, n);
  });
}

Tensor quantize_backward(const Tensor& grad, const Tensor& x, const FixedPoint& format) {
  check(grad.shape() == x.shape(), "quantize backward: gradient ", grad.shape(), " for ", x.shape());
  const float scale = scale_of(x);
  const float low = static_cast<float>(format.min()) * format.scale;
  const float high = static_cast<float>(format.max()) * format.scale;
  return map(grad, Tensor::empty(grad.shape(), grad.dtype()),
             [&, scale](float* v, std::int64_t offset, std::int64_t n) {
               Block input;
               load_block(x, offset, n, input.data());
               if (scale != 1.0f) multiply_block(input.data(), scale, n);
               mask_block(v, input.data(), low, high, n);
             });
}

Tensor relu(const Tensor& x) {
  return map(x, Tensor::empty(x.shape()), [](float* v, std::int64_t, std::int64_t n) { relu_block(v, n); });
}

Tensor relu_backward(const Tensor& dy, const Tensor& y) {
  return map(dy, Tensor::empty(dy.shape(), dy.dtype()), [&](float* v, std::int64_t offset, std::int64_t n) {
    Block output;
    load_block(y, offset, n, output.data());
    relu_mask_block(v, output.data(), n);
  });
}

Tensor tanh(const Tensor& x) {
  return map(x, Tensor::empty(x.shape()), [](float* v, std::int64_t, std::int64_t n) {
    // In double: where C libraries differ in its last bits, they hardly ever do in f32.
    for (std::int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(std::tanh(static_cast<double>(v[i])));
  });
}

Tensor tanh_backward(const Tensor& dy, const Tensor& y) {
  return map(dy, Tensor::empty(dy.shape(), dy.dtype()), [&](float* v, std::int64_t offset, std::int64_t n) {
    Block output;
    load_block(y, offset, n, output.data());
    for (std::int64_t i = 0; i < n; ++i) v[i] *= 1.0f - output[i] * output[i];
  });
}

bool all_finite(const Tensor& x) {
  return Eigen::Map<const Eigen::ArrayXf>(x.data<float>(), x.numel()).isFinite().all();
}

double sum_of_squares(const Tensor& x) {
  constexpr std::int64_t chunk = 1 << 14;  // fixed length: the sum does not depend on threads
  const float* values = x.data<float>();
  std::vector<double> sums(divided_up(x.numel(), chunk));
  parallel_for(static_cast<std::int64_t>(sums.size()), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t c = begin; c < end; ++c) {
      const std::int64_t n = std::min(chunk, x.numel() - c * chunk);
      sums[c] = sum_of_squares(values + c * chunk, n);
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

}  // namespace faq::kernels
