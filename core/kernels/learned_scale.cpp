#include "core/kernels/learned_scale.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/lane_sum.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void multiply(float* x, float factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] *= factor;
}

FAQ_SIMD void round_row(const float* x, std::int8_t* q, float inverse_scale, float high, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    q[i] = static_cast<std::int8_t>(
        static_cast<std::int32_t>(round_half_even_in_range(clamped(x[i] * inverse_scale, -high, high))));
}

// Masks dy and returns the sum over dy·(q − t) with t = x/s, and t = 0 outside the range.
FAQ_SIMD float mask_and_sum(float* dy, const float* x, float inverse_scale, float low, float high,
                            std::int64_t n) {
  return lane_sum(
      n, [=](std::int64_t i) __attribute__((always_inline)) {
        const float t = x[i] * inverse_scale, g = dy[i];
        const float q = round_half_even_in_range(clamped(t, low, high));
        const bool inside = t >= low && t <= high;
        dy[i] = inside ? g : 0.0f;
        return g * (q - (inside ? t : 0.0f));
      });
}

// The parts of a tensor that have one scale.
struct Groups {
  Groups(const Tensor& x, const Tensor& scales) : count(scales.numel()), length(x.numel() / count) {
    check(count == 1 || (x.rank() > 0 && count == x.dim(0)), "learned scales: ", count, " for ", x.shape());
  }
  std::int64_t count, length;
};

}  // namespace

Tensor quantize_rows(const Tensor& x, const Tensor& scales, const FixedPoint& format) {
  const Booked booked(Work::fused);
  const Groups groups(x, scales);
  check(format.is_signed, "learned scales of weights: unsigned integers");
  Tensor q = Tensor::empty(x.shape(), DType::s8);
  const float* from = x.data<float>();
  std::int8_t* to = q.mutable_data<std::int8_t>();
  const float* scale = scales.data<float>();
  const auto high = static_cast<float>(format.max());
  const auto round = [&](std::int64_t group, std::int64_t begin, std::int64_t end) {
    const std::int64_t offset = group * groups.length;
    round_row(from + offset + begin, to + offset + begin, 1.0f / scale[group], high, end - begin);
  };
  if (groups.count == 1)
    parallel_for(groups.length, 1 << 14, [&](std::int64_t begin, std::int64_t end) { round(0, begin, end); });
  else
    parallel_for(groups.count, 4, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t group = begin; group < end; ++group) round(group, 0, groups.length);
    });
  q.set_fixed_point({.scale = groups.count == 1 ? scale[0] : 1.0f, .bits = format.bits, .is_signed = true});
  return q;
}

RoundingGradients rounding_gradients(const Tensor& dy, const Tensor& x, const Tensor& scales,
                                     const FixedPoint& format) {
  const Booked booked(Work::fused);
  check(dy.shape() == x.shape(), "learned scales: gradient ", dy.shape(), " for ", x.shape());
  const Groups groups(x, scales);
  RoundingGradients result{Tensor::empty(dy.shape(), dy.dtype()), Tensor::empty(scales.shape())};
  const std::int64_t blocks = divided_up(groups.length, block_length);
  const float x_scale = scale_of(x);
  const float* scale = scales.data<float>();
  const auto low = static_cast<float>(format.min()), high = static_cast<float>(format.max());
  void* dx = result.dx.mutable_raw();
  std::vector<float> sums(static_cast<std::size_t>(groups.count * blocks));
  parallel_for(groups.count * blocks, 8, [&](std::int64_t begin, std::int64_t end) {
    std::array<float, block_length> gradient, values;
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t group = b / blocks, in_group = b % blocks * block_length;
      const std::int64_t offset = group * groups.length + in_group;
      const std::int64_t n = std::min(block_length, groups.length - in_group);
      load_block(dy, offset, n, gradient.data());
      load_block(x, offset, n, values.data());
      if (x_scale != 1.0f) multiply(values.data(), x_scale, n);
      sums[b] = mask_and_sum(gradient.data(), values.data(), 1.0f / scale[group], low, high, n);
      store_block(dx, dy.dtype(), offset, n, gradient.data());
    }
  });
  float* dscales = result.dscales.mutable_data<float>();
  for (std::int64_t group = 0; group < groups.count; ++group) {
    double sum = 0;  // in the order of the blocks, so it does not depend on threads
    for (std::int64_t b = 0; b < blocks; ++b) sum += sums[group * blocks + b];
    dscales[group] = static_cast<float>(sum);
  }
  return result;
}

float scale_gradient_factor(std::int64_t values, const FixedPoint& format) {
  return static_cast<float>(1.0 / std::sqrt(static_cast<double>(values) * format.max()));
}

void scale_rows_in_place(Tensor& x, const Tensor& factors) {
  const std::int64_t rows = factors.numel(), length = rows == 0 ? 0 : x.numel() / rows;
  check(x.rank() > 0 && x.dim(0) == rows, "factors of rows: ", rows, " for ", x.shape());
  const float* factor = factors.data<float>();
  void* out = x.mutable_raw();
  parallel_for(rows, 4, [&](std::int64_t begin, std::int64_t end) {
    std::array<float, block_length> values;
    for (std::int64_t row = begin; row < end; ++row) {
      for (std::int64_t i = 0; i < length; i += block_length) {
        const std::int64_t n = std::min(block_length, length - i);
        load_block(x, row * length + i, n, values.data());
        multiply(values.data(), factor[row], n);
        store_block(out, x.dtype(), row * length + i, n, values.data());
      }
    }
  });
}

Tensor scaled_channels(const Tensor& x, const Tensor& factors) {
  const ChannelBlocks blocks(x.shape());
  check_channels("factors of channels", factors, blocks.channels());
  const AlignedVector<float> repeated = blocks.repeat(factors.data<float>());
  Tensor out = Tensor::empty(x.shape());
  float* values = out.mutable_data<float>();
  parallel_for(blocks.count(), 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      float* block = values + blocks.offset(b);
      load_block(x, blocks.offset(b), blocks.size(b), block);
      for (std::int64_t i = 0; i < blocks.size(b); ++i) block[i] *= repeated[i];
    }
  });
  return out;
}

void limit_step(Tensor& scales, const Tensor& before, float least) {
  check(scales.shape() == before.shape(), "scales: ", scales.shape(), " after ", before.shape());
  float* now = scales.mutable_data<float>();
  const float* was = before.data<float>();
  for (std::int64_t i = 0; i < scales.numel(); ++i)
    now[i] = std::max(clamped(now[i], 0.5f * was[i], 2.0f * was[i]), least);
}

}  // namespace faq::kernels
