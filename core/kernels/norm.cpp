#include "core/kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/kernels/block.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

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
// represented.
FAQ_SIMD void mask_block(const float* __restrict x, const float* __restrict r, BlockParams p, float low,
                         float high, float* __restrict dy, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = FAQ_PRE_ACTIVATION(i);
    dy[i] = (z > low && z <= high) ? dy[i] : 0.0f;
  }
}
// The sums over dz and dz·(x − μ).
FAQ_SIMD void mask_and_sum_block(const float* __restrict x, const float* __restrict r, BlockParams p,
                                 float low, float high, const float* __restrict mean,
                                 const float* __restrict dy, float* __restrict sum,
                                 float* __restrict sum_product, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = FAQ_PRE_ACTIVATION(i);
    const float g = dy[i];  // read whether wanted or not: a conditional load would not be a vector's
    const float dz = (z > low && z <= high) ? g : 0.0f;
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

Tensor norm_act(const Tensor& x, const NormAct& params) {
  const Booked booked(Work::fused);
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

NormActBackward::NormActBackward(const Tensor& dy, const Tensor& x, const NormAct& params,
                                 const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                                 bool batch_statistics)
    : dy_(dy),
      x_(x),
      params_(params),
      blocks_(x.shape()),
      dgamma_(Tensor::empty({blocks_.channels()})),
      dbeta_(Tensor::empty({blocks_.channels()})) {
  check(dy.shape() == x.shape(), "norm_act backward: gradient ", dy.shape(), " for ", x.shape());
  reduce(statistics, gamma, eps, batch_statistics);
}

// Σ dz and Σ dz·(x − μ) per channel, the latter in units of the accumulator; from them
//   dx = γ/σ · (dz − mean(dz) − x̂·mean(dz·x̂)),  x̂ = (x − μ)/σ.
void NormActBackward::reduce(const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                             bool batch_statistics) {
  const Booked booked(Work::fused);
  const Chunks chunks(blocks_);
  const std::int64_t channels = blocks_.channels();
  const std::int64_t length = blocks_.length();
  const PreActivation pre_activation(x_, params_, blocks_);
  const Bounds bounds = pass_bounds(params_);
  const float step = step_of(x_);
  std::vector<float> mean_units(channels);
  for (std::int64_t c = 0; c < channels; ++c) mean_units[c] = statistics.mean.data<float>()[c] / step;
  const std::vector<float> mean = blocks_.repeat(mean_units.data());
  std::vector<double> sums(chunks.count() * channels), products(chunks.count() * channels);
  parallel_for(chunks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> input(length), r(length), dz(length), sum(length), product(length);
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      std::ranges::fill(sum, 0.0f);
      std::ranges::fill(product, 0.0f);
      for (std::int64_t b = chunks.begin(chunk); b < chunks.end(chunk); ++b) {
        const std::int64_t offset = blocks_.offset(b);
        const std::int64_t n = blocks_.size(b);
        pre_activation.load(offset, n, input.data(), r.data());
        load_block(dy_, offset, n, dz.data());
        mask_and_sum_block(input.data(), r.data(), pre_activation.params(), bounds.low, bounds.high,
                           mean.data(), dz.data(), sum.data(), product.data(), n);
      }
      blocks_.fold(sum.data(), length, &sums[chunk * channels]);
      blocks_.fold(product.data(), length, &products[chunk * channels]);
    }
  });

  std::vector<float> a(channels), b(channels), c(channels);
  const auto rows = static_cast<double>(blocks_.rows());
  for (std::int64_t ch = 0; ch < channels; ++ch) {
    double sum = 0, product = 0;
    for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      sum += sums[chunk * channels + ch];
      product += products[chunk * channels + ch];
    }
    const double inverse_sigma =
        1.0 / std::sqrt(static_cast<double>(statistics.variance.data<float>()[ch]) + eps);
    const double sum_xhat = product * step * inverse_sigma;
    dgamma_.mutable_data<float>()[ch] = static_cast<float>(sum_xhat);
    dbeta_.mutable_data<float>()[ch] = static_cast<float>(sum);
    const double factor = gamma.data<float>()[ch] * inverse_sigma;
    a[ch] = static_cast<float>(factor);
    if (batch_statistics) {
      const double slope = -factor * inverse_sigma * sum_xhat / rows;
      b[ch] = static_cast<float>(slope * step);
      c[ch] = static_cast<float>(-factor * sum / rows - slope * statistics.mean.data<float>()[ch]);
    }
  }
  a_ = blocks_.repeat(a.data());
  b_ = blocks_.repeat(b.data());
  c_ = blocks_.repeat(c.data());
}

void NormActBackward::apply(std::int64_t begin_image, std::int64_t end_image, Tensor& dx,
                            Tensor& dresidual) const {
  const Booked booked(Work::fused);
  const std::int64_t image = x_.numel() / x_.dim(0);
  const std::int64_t first = begin_image * image;
  const std::int64_t last = end_image * image;
  check(dx.numel() == last - first && (!dresidual || dresidual.numel() == last - first),
        "norm_act backward: ", dx.shape(), " for ", end_image - begin_image, " images of ", x_.shape());
  const std::int64_t length = blocks_.length();
  const PreActivation pre_activation(x_, params_, blocks_);
  const Bounds bounds = pass_bounds(params_);
  void* dx_out = dx.mutable_raw();
  void* dresidual_out = dresidual ? dresidual.mutable_raw() : nullptr;
  parallel_for((last - first + length - 1) / length, 4, [&](std::int64_t begin, std::int64_t end) {
    std::vector<float> input(length), r(length), dz(length);
    for (std::int64_t block = begin; block < end; ++block) {
      const std::int64_t to = block * length;
      const std::int64_t offset = first + to;
      const std::int64_t n = std::min(length, last - offset);
      pre_activation.load(offset, n, input.data(), r.data());
      load_block(dy_, offset, n, dz.data());
      mask_block(input.data(), r.data(), pre_activation.params(), bounds.low, bounds.high, dz.data(), n);
      if (dresidual_out) store_block(dresidual_out, dresidual.dtype(), to, n, dz.data());
      combine(dz.data(), input.data(), a_.data(), b_.data(), c_.data(), n);
      store_block(dx_out, dx.dtype(), to, n, dz.data());
    }
  });
}

}  // namespace faq::kernels
