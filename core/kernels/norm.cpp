#include "core/kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/block.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void accumulate(float* sum, const float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += x[i];
}
FAQ_SIMD void accumulate_squared_deviation(float* sum, const float* x, const float* mean, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += (x[i] - mean[i]) * (x[i] - mean[i]);
}
// z = x·scale + shift + r·step: the one expression forward and backward share, so that the mask of the
// backward pass is that of the very bits the forward pass clipped. Without a residual r is a block of zeros.
#define FAQ_PRE_ACTIVATION(i) (x[i] * p.scale[i] + p.shift[i] + r[i] * p.residual_step)

struct BlockParams {
  const float* scale;
  const float* shift;
  float residual_step;
};

FAQ_SIMD void norm_act_block(const float* x, const float* r, BlockParams p, float low, float* out,
                             std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = FAQ_PRE_ACTIVATION(i);
    out[i] = z < low ? low : z;  // NaN stays NaN: a diverged network must not look healthy
  }
}
FAQ_SIMD void norm_act_quantize_block(const float* x, const float* r, BlockParams p, float inverse_step,
                                      float low, float high, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = FAQ_PRE_ACTIVATION(i);
    out[i] = round_half_even_in_range(std::min(std::max(z * inverse_step, low), high));
  }
}
// dz = dy inside (low, high], else 0: at the lower end ReLU's gradient is 0, at the upper end the value is
// represented. With the sums over dz and dz·(x − μ).
FAQ_SIMD void mask_and_sum_block(const float* __restrict x, const float* __restrict r, BlockParams p,
                                 float low, float high, const float* __restrict mean, float* __restrict dy,
                                 float* __restrict sum, float* __restrict sum_product, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = FAQ_PRE_ACTIVATION(i);
    const float dz = (z > low && z <= high) ? dy[i] : 0.0f;
    dy[i] = dz;
    sum[i] += dz;
    sum_product[i] += dz * (x[i] - mean[i]);
  }
}
#undef FAQ_PRE_ACTIVATION

// dx = a·dz + b·x + c with per-channel a, b, c.
FAQ_SIMD void combine(float* dz, const float* x, const float* a, const float* b, const float* c,
                      std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) dz[i] = dz[i] * a[i] + (x[i] * b[i] + c[i]);
}

float step_of(const Tensor& x) { return x.is_fixed_point() ? x.fixed_point().step : 1.0f; }

// Blocks are gathered into chunks of fixed length, each with its own partial sums: what a reduction adds up,
// and in which order, is a property of the tensor, not of the threads.
constexpr std::int64_t blocks_per_chunk = 16;

struct Chunks {
  explicit Chunks(const ChannelBlocks& all) : blocks(all) {}
  std::int64_t count() const { return (blocks.count() + blocks_per_chunk - 1) / blocks_per_chunk; }
  std::int64_t begin(std::int64_t chunk) const { return chunk * blocks_per_chunk; }
  std::int64_t end(std::int64_t chunk) const {
    return std::min(blocks.count(), (chunk + 1) * blocks_per_chunk);
  }
  const ChannelBlocks& blocks;
};

struct Bounds {
  float low;
  float high;
};

// The open-closed interval in which the gradient passes.
Bounds pass_bounds(const NormAct& params) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Bounds bounds{params.relu ? 0.0f : -infinity, infinity};
  if (params.format) {
    const FixedPoint& format = *params.format;
    bounds.high = static_cast<float>(format.max()) * format.step;
    // A signed range is closed at its lower end: the next smaller float is the last one outside.
    const float low = static_cast<float>(format.min()) * format.step;
    if (!params.relu) bounds.low = format.is_signed ? std::nextafter(low, -infinity) : low;
  }
  return bounds;
}

void check_channels(const char* what, const Tensor& vector, std::int64_t channels) {
  check(vector.numel() == channels, what, ": expected ", channels, " per-channel values, got ",
        vector.shape());
}

// Per-channel parameters repeated to the length of a block, in units of the integers of x and of the
// residual.
struct PreActivation {
  PreActivation(const Tensor& input, const NormAct& params, const ChannelBlocks& blocks)
      : x(input), residual(params.residual), residual_step(residual ? step_of(residual) : 0.0f) {
    const float step = step_of(x);
    std::vector<float> stepped(params.scale.data<float>(), params.scale.data<float>() + blocks.channels());
    for (float& s : stepped) s *= step;  // a power of two: exact
    scale = blocks.repeat(stepped.data());
    shift = blocks.repeat(params.shift.data<float>());
  }

  BlockParams params() const { return {scale.data(), shift.data(), residual_step}; }
  /// `r` must hold zeros when there is no residual.
  void load(std::int64_t offset, std::int64_t n, float* x_block, float* r_block) const {
    load_block(x, offset, n, x_block);
    if (residual) load_block(residual, offset, n, r_block);
  }

  const Tensor& x;
  const Tensor& residual;
  float residual_step;
  std::vector<float> scale;
  std::vector<float> shift;
};

}  // namespace

ChannelStatistics channel_statistics(const Tensor& x) {
  const ChannelBlocks blocks(x.shape());
  const Chunks chunks(blocks);
  const std::int64_t channels = blocks.channels();
  const std::int64_t length = blocks.length();
  check(blocks.rows() > 0, "batch statistics: no values in ", x.shape());
  // Per chunk: count, mean and sum of squared deviations, combined by Chan et al.'s formula.
  std::vector<double> means(chunks.count() * channels), deviations(chunks.count() * channels);
  parallel_for(chunks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values(length * blocks_per_chunk), sum(length), mean(length);
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      const std::int64_t first = blocks.offset(chunks.begin(chunk));
      const std::int64_t n = std::min(length * blocks_per_chunk, x.numel() - first);
      const auto rows = static_cast<double>(n / channels);
      load_block(x, first, n, values.data());
      double* chunk_mean = &means[chunk * channels];
      double* chunk_deviation = &deviations[chunk * channels];
      std::ranges::fill(sum, 0.0f);
      for (std::int64_t i = 0; i < n; i += length)
        accumulate(sum.data(), &values[i], std::min(length, n - i));
      blocks.fold(sum.data(), length, chunk_mean);
      for (std::int64_t c = 0; c < channels; ++c) chunk_mean[c] /= rows;
      for (std::int64_t i = 0; i < length; ++i) mean[i] = static_cast<float>(chunk_mean[i % channels]);
      std::ranges::fill(sum, 0.0f);
      for (std::int64_t i = 0; i < n; i += length) {
        accumulate_squared_deviation(sum.data(), &values[i], mean.data(), std::min(length, n - i));
      }
      blocks.fold(sum.data(), length, chunk_deviation);
      for (std::int64_t c = 0; c < channels; ++c) {  // deviations were taken from the f32 mean
        const double error = chunk_mean[c] - static_cast<double>(static_cast<float>(chunk_mean[c]));
        chunk_deviation[c] -= rows * error * error;
      }
    }
  });

  const double step = step_of(x);
  const auto total_rows = static_cast<double>(blocks.rows());
  ChannelStatistics result{Tensor::empty({channels}), Tensor::empty({channels})};
  float* mean_out = result.mean.mutable_data<float>();
  float* variance_out = result.variance.mutable_data<float>();
  for (std::int64_t c = 0; c < channels; ++c) {
    double count = 0, mean = 0, deviation = 0;
    for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      const std::int64_t first = blocks.offset(chunks.begin(chunk));
      const auto rows =
          static_cast<double>(std::min(length * blocks_per_chunk, x.numel() - first) / channels);
      const double delta = means[chunk * channels + c] - mean;
      const double together = count + rows;
      mean += delta * rows / together;
      deviation += deviations[chunk * channels + c] + delta * delta * count * rows / together;
      count = together;
    }
    mean_out[c] = static_cast<float>(mean * step);
    variance_out[c] = static_cast<float>(std::max(0.0, deviation / total_rows) * step * step);
  }
  return result;
}

Tensor norm_act(const Tensor& x, const NormAct& params) {
  const ChannelBlocks blocks(x.shape());
  check_channels("norm_act: scale", params.scale, blocks.channels());
  check_channels("norm_act: shift", params.shift, blocks.channels());
  check(!params.residual || params.residual.shape() == x.shape(), "norm_act: residual ",
        params.residual.shape(), " for an output of ", x.shape());
  const PreActivation pre_activation(x, params, blocks);
  Tensor out = params.format ? Tensor::empty(x.shape(), params.format->is_signed ? DType::s8 : DType::u8,
                                             *params.format)
                             : Tensor::empty(x.shape());
  void* destination = out.mutable_raw();
  constexpr float lowest = -std::numeric_limits<float>::infinity();
  parallel_for(blocks.count(), 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> values(blocks.length()), r(blocks.length());
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = blocks.offset(b);
      const std::int64_t n = blocks.size(b);
      pre_activation.load(offset, n, values.data(), r.data());
      if (params.format) {
        const auto low =
            static_cast<float>(params.relu ? std::max(0, params.format->min()) : params.format->min());
        norm_act_quantize_block(values.data(), r.data(), pre_activation.params(), 1.0f / params.format->step,
                                low, static_cast<float>(params.format->max()), values.data(), n);
      } else {
        norm_act_block(values.data(), r.data(), pre_activation.params(), params.relu ? 0.0f : lowest,
                       values.data(), n);
      }
      store_block(destination, out.dtype(), offset, n, values.data());
    }
  });
  return out;
}

NormActGrads norm_act_backward(const Tensor& dy, const Tensor& x, const NormAct& params,
                               const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                               bool batch_statistics, bool want_dresidual) {
  check(dy.shape() == x.shape(), "norm_act backward: gradient ", dy.shape(), " for ", x.shape());
  const ChannelBlocks blocks(x.shape());
  const Chunks chunks(blocks);
  const std::int64_t channels = blocks.channels();
  const std::int64_t length = blocks.length();
  const PreActivation pre_activation(x, params, blocks);
  const Bounds bounds = pass_bounds(params);
  const float step = step_of(x);

  NormActGrads grads{
      Tensor::empty(x.shape(), dy.dtype()), {}, Tensor::empty({channels}), Tensor::empty({channels})};
  if (params.residual && want_dresidual) grads.dresidual = Tensor::empty(x.shape(), dy.dtype());
  void* dx = grads.dx.mutable_raw();
  // The masked gradient is the residual's, or is kept where dx will stand.
  Tensor& masked = grads.dresidual ? grads.dresidual : grads.dx;
  void* dz_out = masked.mutable_raw();

  // First pass: Σ dz and Σ dz·(x − μ) per channel, in units of the accumulator.
  std::vector<float> mean_units(channels);
  for (std::int64_t c = 0; c < channels; ++c) mean_units[c] = statistics.mean.data<float>()[c] / step;
  const std::vector<float> mean = blocks.repeat(mean_units.data());
  std::vector<double> sums(chunks.count() * channels), products(chunks.count() * channels);
  parallel_for(chunks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> input(length), r(length), dz(length), sum(length), product(length);
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      std::ranges::fill(sum, 0.0f);
      std::ranges::fill(product, 0.0f);
      for (std::int64_t b = chunks.begin(chunk); b < chunks.end(chunk); ++b) {
        const std::int64_t offset = blocks.offset(b);
        const std::int64_t n = blocks.size(b);
        pre_activation.load(offset, n, input.data(), r.data());
        load_block(dy, offset, n, dz.data());
        mask_and_sum_block(input.data(), r.data(), pre_activation.params(), bounds.low, bounds.high,
                           mean.data(), dz.data(), sum.data(), product.data(), n);
        store_block(dz_out, dy.dtype(), offset, n, dz.data());
      }
      blocks.fold(sum.data(), length, &sums[chunk * channels]);
      blocks.fold(product.data(), length, &products[chunk * channels]);
    }
  });

  // Second pass, as dx = a·dz + b·x + c:  dx = γ/σ · (dz − mean(dz) − x̂·mean(dz·x̂)),  x̂ = (x − μ)/σ.
  std::vector<float> a(channels), b(channels), c(channels);
  const auto rows = static_cast<double>(blocks.rows());
  for (std::int64_t ch = 0; ch < channels; ++ch) {
    double sum = 0, product = 0;
    for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      sum += sums[chunk * channels + ch];
      product += products[chunk * channels + ch];
    }
    const double inverse_sigma =
        1.0 / std::sqrt(static_cast<double>(statistics.variance.data<float>()[ch]) + eps);
    const double sum_xhat = product * step * inverse_sigma;
    grads.dgamma.mutable_data<float>()[ch] = static_cast<float>(sum_xhat);
    grads.dbeta.mutable_data<float>()[ch] = static_cast<float>(sum);
    const double factor = gamma.data<float>()[ch] * inverse_sigma;
    a[ch] = static_cast<float>(factor);
    if (batch_statistics) {
      const double slope = -factor * inverse_sigma * sum_xhat / rows;
      b[ch] = static_cast<float>(slope * step);
      c[ch] = static_cast<float>(-factor * sum / rows - slope * statistics.mean.data<float>()[ch]);
    }
  }
  const std::vector<float> a_block = blocks.repeat(a.data());
  const std::vector<float> b_block = blocks.repeat(b.data());
  const std::vector<float> c_block = blocks.repeat(c.data());
  parallel_for(blocks.count(), 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> input(length), dz(length);
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t offset = blocks.offset(block);
      const std::int64_t n = blocks.size(block);
      load_block(x, offset, n, input.data());
      load_block(masked, offset, n, dz.data());
      combine(dz.data(), input.data(), a_block.data(), b_block.data(), c_block.data(), n);
      store_block(dx, dy.dtype(), offset, n, dz.data());
    }
  });
  return grads;
}

namespace {

// Rows of C channels; contraction is off, and every product of a 32-bit integer and an f32 loses at most its
// last bits in double, so the result is the correctly rounded one for any value that is not within 1e-13 of a
// tie.
FAQ_SIMD void requantize_row(const std::int32_t* acc, const double* multiplier, const double* bias,
                             double* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<double>(acc[i]) * multiplier[i] + bias[i];
}
FAQ_SIMD void add_residual_u8(double* out, const std::uint8_t* residual, double factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] += static_cast<double>(residual[i]) * factor;
}
FAQ_SIMD void add_residual_s8(double* out, const std::int8_t* residual, double factor, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] += static_cast<double>(residual[i]) * factor;
}
// Clipping to integers before rounding to integers is clipping after it.
FAQ_SIMD void round_row(const double* in, float* out, double low, double high, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = static_cast<float>(round_half_even_in_range(std::min(std::max(in[i], low), high)));
  }
}

std::vector<double> widened(const ChannelBlocks& blocks, const Tensor& per_channel) {
  const std::vector<float> repeated = blocks.repeat(per_channel.data<float>());
  return {repeated.begin(), repeated.end()};
}

}  // namespace

Tensor requantize(const Tensor& accumulators, const Tensor& residual, const Requantize& params) {
  const ChannelBlocks blocks(accumulators.shape());
  check_channels("requantize: multiplier", params.multiplier, blocks.channels());
  check_channels("requantize: bias", params.bias, blocks.channels());
  check(!residual || residual.shape() == accumulators.shape(), "requantize: residual ", residual.shape(),
        " for ", accumulators.shape());
  const std::vector<double> multiplier = widened(blocks, params.multiplier);
  const std::vector<double> bias = widened(blocks, params.bias);
  const FixedPoint& format = params.format;
  const double low = params.relu ? std::max(0, format.min()) : format.min();
  const double high = format.max();
  Tensor out = Tensor::empty(accumulators.shape(), format.is_signed ? DType::s8 : DType::u8, format);
  void* destination = out.mutable_raw();
  const std::int32_t* acc = accumulators.data<std::int32_t>();
  parallel_for(blocks.count(), 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> values(blocks.length());
    std::vector<float> rounded(blocks.length());
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = blocks.offset(b);
      const std::int64_t n = blocks.size(b);
      requantize_row(acc + offset, multiplier.data(), bias.data(), values.data(), n);
      if (residual && residual.dtype() == DType::u8) {
        add_residual_u8(values.data(), residual.data<std::uint8_t>() + offset, params.residual_multiplier, n);
      } else if (residual) {
        add_residual_s8(values.data(), residual.data<std::int8_t>() + offset, params.residual_multiplier, n);
      }
      round_row(values.data(), rounded.data(), low, high, n);
      store_block(destination, out.dtype(), offset, n, rounded.data());
    }
  });
  return out;
}

Tensor dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias) {
  const ChannelBlocks blocks(accumulators.shape());
  check_channels("dequantize: multiplier", multiplier, blocks.channels());
  check_channels("dequantize: bias", bias, blocks.channels());
  Tensor out = Tensor::empty(accumulators.shape());
  const std::int32_t* acc = accumulators.data<std::int32_t>();
  const float* m = multiplier.data<float>();
  const float* b = bias.data<float>();
  float* values = out.mutable_data<float>();
  for (std::int64_t i = 0; i < accumulators.numel(); ++i) {
    const std::int64_t c = i % blocks.channels();
    values[i] = static_cast<float>(static_cast<double>(acc[i]) * m[c] + b[c]);
  }
  return out;
}

}  // namespace faq::kernels
