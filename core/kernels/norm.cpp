#include "core/kernels/norm.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

struct BlockParams {
  const float* scale;
  const float* shift;
  float residual_scale;
};

// z = x·scale + shift + r·r_scale. Forward and backward share this one expression, so the backward pass masks
// exactly the bits that the forward pass clipped.
template <class X, class R>
[[gnu::always_inline]] inline float pre_activation(const X* x, const R* r, const BlockParams& p,
                                                   std::int64_t i) {
  const float z = element(x, i) * p.scale[i] + p.shift[i];
  return std::is_same_v<R, Nothing> ? z : z + element(r, i) * p.residual_scale;
}

struct Bounds {
  float low;
  float high;
};

// The parameters of dx = a·dz + b·x + c.
struct Combination {
  const float* a;
  const float* b;
  const float* c;
};

// The loops; below them, the overloads that are compiled for every instruction set.
template <class X, class R>
[[gnu::always_inline]] inline void activate_loop(const X* x, const R* r, BlockParams p, Bounds range,
                                                 float* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = pre_activation(x, r, p, i);
    const float raised = z < range.low ? range.low : z;
    out[i] =
        raised > range.high ? range.high : raised;  // NaN stays NaN: a diverged network must not look healthy
  }
}

template <class X, class R>
[[gnu::always_inline]] inline void quantize_loop(const X* x, const R* r, BlockParams p, float inverse_scale,
                                                 Bounds range, float* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = pre_activation(x, r, p, i);
    out[i] = round_half_even_in_range(clamped(z * inverse_scale, range.low, range.high));
  }
}

// dz = dy inside (low, high], else 0. At the lower end ReLU's gradient is 0; at the upper end the value is
// representable. dy is always read, because a conditional load could not be vectorised.
template <class X, class R, class D>
[[gnu::always_inline]] inline float masked(const X* x, const R* r, const D* dy, const BlockParams& p,
                                           Bounds pass, std::int64_t i) {
  const float z = pre_activation(x, r, p, i);
  const float g = element(dy, i);
  return (z > pass.low && z <= pass.high) ? g : 0.0f;
}

// What is reduced, besides dz, by channel: μ in units of the accumulator, and the factor of dz in dx.
struct ReductionTerms {
  const float* mean;
  const float* a;
};

// The sums over dz and dz·(x − μ). Returns the largest |a·dz|, as bits, if it is `measured`, which takes a
// tenth of the time.
template <bool measured, class X, class R, class D>
[[gnu::always_inline]] inline std::uint32_t reduce_loop(const X* x, const R* r, const D* dy, BlockParams p,
                                                        Bounds pass, ReductionTerms of, float* __restrict sum,
                                                        float* __restrict product, std::int64_t n) {
  std::uint32_t largest = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const float dz = masked(x, r, dy, p, pass, i);
    sum[i] += dz;
    product[i] += dz * (element(x, i) - of.mean[i]);
    if constexpr (measured) {
      const std::uint32_t bits = magnitude_bits(dz * of.a[i]);
      largest = bits > largest ? bits : largest;
    }
  }
  return largest;
}

// What the gradient of an output's scale is computed from.
struct Rounding {
  float inverse_scale;
  Bounds activation;
  Bounds levels;    ///< of the integers after the activation
  Bounds integers;  ///< of the format
};

// The sum over dy·(q − u/scale): the terms of NormActBackward::dscale.
template <class X, class R, class D>
[[gnu::always_inline]] inline void reduce_scale_loop(const X* x, const R* r, const D* dy, BlockParams p,
                                                     Rounding to, float* __restrict of_scale,
                                                     std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float z = pre_activation(x, r, p, i);
    const float q = round_half_even_in_range(clamped(z * to.inverse_scale, to.levels.low, to.levels.high));
    const float u = clamped(z, to.activation.low, to.activation.high) * to.inverse_scale;
    of_scale[i] += element(dy, i) * (q - ((u >= to.integers.low && u <= to.integers.high) ? u : 0.0f));
  }
}

template <class X, class R, class D>
[[gnu::always_inline]] inline void gradient_loop(const X* x, const R* r, const D* dy, BlockParams p,
                                                 Bounds pass, Combination dx_of, float* __restrict dx,
                                                 float* __restrict dresidual, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float dz = masked(x, r, dy, p, pass, i);
    if (!std::is_same_v<R, Nothing>) dresidual[i] = dz;
    dx[i] = dz * dx_of.a[i] + (element(x, i) * dx_of.b[i] + dx_of.c[i]);
  }
}

#define FAQ_FORWARD(X, R)                                                                                   \
  FAQ_SIMD void activate(const X* x, const R* r, BlockParams p, Bounds range, float* out, std::int64_t n) { \
    activate_loop(x, r, p, range, out, n);                                                                  \
  }                                                                                                         \
  FAQ_SIMD void quantize(const X* x, const R* r, BlockParams p, float inverse_scale, Bounds range,          \
                         float* out, std::int64_t n) {                                                      \
    quantize_loop(x, r, p, inverse_scale, range, out, n);                                                   \
  }
#define FAQ_BACKWARD(X, R, D)                                                                                \
  FAQ_SIMD void reduce(const X* x, const R* r, const D* dy, BlockParams p, Bounds pass, ReductionTerms of,   \
                       float* sum, float* product, std::int64_t n) {                                         \
    reduce_loop<false>(x, r, dy, p, pass, of, sum, product, n);                                              \
  }                                                                                                          \
  FAQ_SIMD std::uint32_t reduce_and_measure(const X* x, const R* r, const D* dy, BlockParams p, Bounds pass, \
                                            ReductionTerms of, float* sum, float* product, std::int64_t n) { \
    return reduce_loop<true>(x, r, dy, p, pass, of, sum, product, n);                                        \
  }                                                                                                          \
  FAQ_SIMD void reduce_scale(const X* x, const R* r, const D* dy, BlockParams p, Rounding to,                \
                             float* of_scale, std::int64_t n) {                                              \
    reduce_scale_loop(x, r, dy, p, to, of_scale, n);                                                         \
  }                                                                                                          \
  FAQ_SIMD void gradient(const X* x, const R* r, const D* dy, BlockParams p, Bounds pass, Combination dx_of, \
                         float* dx, float* dresidual, std::int64_t n) {                                      \
    gradient_loop(x, r, dy, p, pass, dx_of, dx, dresidual, n);                                               \
  }
#define FAQ_BOTH(X, R)      \
  FAQ_FORWARD(X, R)         \
  FAQ_BACKWARD(X, R, float) \
  FAQ_BACKWARD(X, R, bfloat16)
FAQ_BOTH(float, Nothing)
FAQ_BOTH(float, float)
FAQ_BOTH(std::int16_t, Nothing)
FAQ_BOTH(std::int16_t, std::uint8_t)
FAQ_BOTH(std::int16_t, std::int8_t)
FAQ_BOTH(std::int32_t, Nothing)
FAQ_BOTH(std::int32_t, std::uint8_t)
FAQ_BOTH(std::int32_t, std::int8_t)
FAQ_BOTH(std::uint8_t, Nothing)
FAQ_BOTH(std::int8_t, Nothing)
#undef FAQ_FORWARD
#undef FAQ_BACKWARD
#undef FAQ_BOTH

FAQ_SIMD void add(const float* there, float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += there[i];
}
FAQ_SIMD void add(const bfloat16* there, float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] += element(there, i);
}

// The interval (low, high] in which the gradient passes.
Bounds pass_bounds(const NormActParams& params) {
  constexpr float infinity = std::numeric_limits<float>::infinity();
  Bounds bounds{params.activation.low, params.activation.high};
  if (params.format) {
    const FixedPoint& format = *params.format;
    bounds.high = std::min(bounds.high, static_cast<float>(format.max()) * format.scale);
    // A signed range is closed at its lower end, so the last float outside it is the next smaller one.
    const float low = static_cast<float>(format.min()) * format.scale;
    bounds.low = std::max(bounds.low, format.is_signed ? std::nextafter(low, -infinity) : low);
  }
  return bounds;
}

Rounding rounding_of(const NormActParams& params) {
  const FixedPoint& format = *params.format;
  const Levels levels = levels_of(params.activation, format);
  return {1.0f / format.scale,
          {params.activation.low, params.activation.high},
          {levels.low, levels.high},
          {static_cast<float>(format.min()), static_cast<float>(format.max())}};
}

// The scale of the integers of x, by channel.
std::vector<float> scales_of(const Tensor& x, const NormActParams& params, std::int64_t channels) {
  if (!params.x_scales) return std::vector<float>(static_cast<std::size_t>(channels), scale_of(x));
  check_channels("norm_act: scales of x", params.x_scales, channels);
  const auto scales = params.x_scales.span<float>();
  return {scales.begin(), scales.end()};
}

// The parameters of the channels, repeated to the length of a block, in units of the integers of x and of the
// residual.
class PreActivation {
 public:
  PreActivation(const Tensor& x, const NormActParams& params, const ChannelBlocks& blocks)
      : x_(x), residual_(params.residual), residual_scale_(residual_ ? scale_of(residual_) : 0.0f) {
    std::vector<float> combined = scales_of(x, params, blocks.channels());
    const float* scale = params.scale.data<float>();
    for (float& s : combined) s *= *scale++;  // exact if the scale of x is a power of two
    scale_ = blocks.repeat(combined.data());
    shift_ = blocks.repeat(params.shift.data<float>());
  }

  BlockParams params() const { return {scale_.data(), shift_.data(), residual_scale_}; }

  /// Calls body(x, residual) with elements offset… of both, in their own dtypes if there are loops for them,
  /// else as f32 in `scratch`.
  template <class Body>
  void at(std::int64_t offset, std::int64_t n, AlignedVector<float>& scratch, Body body) const {
    const bool bytes = !residual_ || residual_.dtype() == DType::u8 || residual_.dtype() == DType::s8;
    if (x_.dtype() == DType::s16 && bytes)
      return with_integer_residual(x_.data<std::int16_t>() + offset, offset, body);
    if (x_.dtype() == DType::s32 && bytes)
      return with_integer_residual(x_.data<std::int32_t>() + offset, offset, body);
    if (x_.dtype() == DType::f32 && !residual_) return body(x_.data<float>() + offset, no_residual);
    if (x_.dtype() == DType::u8 && !residual_) return body(x_.data<std::uint8_t>() + offset, no_residual);
    if (x_.dtype() == DType::s8 && !residual_) return body(x_.data<std::int8_t>() + offset, no_residual);
    if (x_.dtype() == DType::f32 && residual_.dtype() == DType::f32)
      return body(x_.data<float>() + offset, residual_.data<float>() + offset);
    scratch.resize(static_cast<std::size_t>(2 * n));
    load_block(x_, offset, n, scratch.data());
    const float* x = scratch.data();
    if (!residual_) return body(x, no_residual);
    load_block(residual_, offset, n, scratch.data() + n);
    body(x, x + n);
  }

 private:
  static constexpr const Nothing* no_residual = nullptr;

  template <class X, class Body>
  void with_integer_residual(const X* x, std::int64_t offset, Body body) const {
    if (!residual_) {
      body(x, no_residual);
    } else if (residual_.dtype() == DType::u8) {
      body(x, residual_.data<std::uint8_t>() + offset);
    } else {
      body(x, residual_.data<std::int8_t>() + offset);
    }
  }

  const Tensor& x_;
  const Tensor& residual_;
  float residual_scale_;
  AlignedVector<float> scale_;
  AlignedVector<float> shift_;
};

// Calls body(dy) with elements offset… of the gradient.
template <class Body>
void with_gradient(const Tensor& dy, std::int64_t offset, Body body) {
  if (dy.dtype() == DType::bf16) {
    body(dy.data<bfloat16>() + offset);
  } else {
    body(dy.data<float>() + offset);
  }
}

}  // namespace

Tensor norm_act(const Tensor& x, const NormActParams& params) {
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
  const Levels levels = params.format ? levels_of(params.activation, *params.format) : Levels{};
  parallel_for(blocks.count(), 4, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<float> values(blocks.length()), scratch;
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t offset = blocks.offset(b);
      const std::int64_t n = blocks.size(b);
      pre_activation.at(offset, n, scratch, [&](const auto* x_block, const auto* r) {
        if (params.format) {
          quantize(x_block, r, pre_activation.params(), 1.0f / params.format->scale,
                   {levels.low, levels.high}, values.data(), n);
        } else {
          activate(x_block, r, pre_activation.params(), {params.activation.low, params.activation.high},
                   values.data(), n);
        }
      });
      store_block(destination, out.dtype(), offset, n, values.data());
    }
  });
  return out;
}

// Of each channel, what Σ dz and Σ dz·(x − μ) become gradients with.
struct NormActBackward::Channels {
  std::vector<double> inverse_sigma;
  std::vector<float> mean, gamma;
  std::vector<float> x_scales;  ///< the real value of a unit of x
  std::vector<float> factors;   ///< of dx

  Channels(const ChannelStatistics& statistics, const Tensor& gamma_of, float eps, std::vector<float> units,
           const Tensor& factors_of)
      : mean(values_of(statistics.mean)),
        gamma(values_of(gamma_of)),
        x_scales(std::move(units)),
        factors(factors_of ? values_of(factors_of) : std::vector<float>(gamma.size(), 1.0f)) {
    for (const float variance : statistics.variance.span<float>())
      inverse_sigma.push_back(1.0 / std::sqrt(static_cast<double>(variance) + eps));
  }
  std::size_t count() const { return gamma.size(); }
  static std::vector<float> values_of(const Tensor& tensor) {
    const auto values = tensor.span<float>();
    return {values.begin(), values.end()};
  }
};

NormActBackward::NormActBackward(const Tensor& dy, const Tensor& x, const NormActParams& params,
                                 const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                                 const NormActBackwardOptions& options)
    : dy_(dy),
      x_(x),
      params_(params),
      blocks_(x.shape()),
      dgamma_(Tensor::empty({blocks_.channels()})),
      dbeta_(Tensor::empty({blocks_.channels()})) {
  check(dy.shape() == x.shape(), "norm_act backward: gradient ", dy.shape(), " for ", x.shape());
  check(!params.residual || params.residual.shape() == x.shape(), "norm_act backward: residual ",
        params.residual.shape(), " for ", x.shape());
  check_channels("norm_act backward: scale", params.scale, blocks_.channels());
  check_channels("norm_act backward: shift", params.shift, blocks_.channels());
  check_channels("norm_act backward: mean", statistics.mean, blocks_.channels());
  check_channels("norm_act backward: variance", statistics.variance, blocks_.channels());
  check_channels("norm_act backward: gamma", gamma, blocks_.channels());
  if (options.factors)
    check_channels("norm_act backward: factors of dx", options.factors, blocks_.channels());
  check(!options.with_dscale || params.format,
        "norm_act backward: the gradient of a scale that there is not");
  const Booked booked(Work::fused);
  const Channels of(statistics, gamma, eps, scales_of(x_, params_, blocks_.channels()), options.factors);
  derive(reduce(of, options), of, options);
}

// Σ dz and Σ dz·(x − μ) of each channel, the second in units of the accumulator. Also finds a_, largest_ and
// dscale_.
NormActBackward::Sums NormActBackward::reduce(const Channels& of, const NormActBackwardOptions& options) {
  const Chunks chunks(blocks_);
  const std::int64_t channels = blocks_.channels();
  const std::int64_t length = blocks_.length();
  const PreActivation pre_activation(x_, params_, blocks_);
  const Bounds bounds = pass_bounds(params_);
  const bool with_dscale = options.with_dscale;
  const Rounding rounding = with_dscale ? rounding_of(params_) : Rounding{};
  std::vector<float> mean_units, a;
  for (std::size_t ch = 0; ch < of.count(); ++ch) {
    mean_units.push_back(of.mean[ch] / of.x_scales[ch]);
    a.push_back(static_cast<float>(of.gamma[ch] * of.inverse_sigma[ch]) * of.factors[ch]);
  }
  const AlignedVector<float> mean = blocks_.repeat(mean_units.data());
  a_ = blocks_.repeat(a.data());
  if (options.with_rounding) largest_.resize(static_cast<std::size_t>(blocks_.count()));
  ChunkValues sums(chunks.count(), channels), products(chunks.count(), channels);
  std::vector<double> of_scale(with_dscale ? chunks.count() : 0);
  parallel_for(chunks.count(), 1, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<float> scratch, sum(length), product(length), scale_terms(with_dscale ? length : 0);
    for (std::int64_t chunk = begin; chunk < end; ++chunk) {
      std::ranges::fill(sum, 0.0f);
      std::ranges::fill(product, 0.0f);
      std::ranges::fill(scale_terms, 0.0f);
      for (std::int64_t block = chunks.begin(chunk); block < chunks.end(chunk); ++block) {
        const std::int64_t offset = blocks_.offset(block);
        const std::int64_t n = blocks_.size(block);
        pre_activation.at(offset, n, scratch, [&](const auto* x, const auto* r) {
          with_gradient(dy_, offset, [&](const auto* dy) {
            const ReductionTerms terms{mean.data(), a_.data()};
            const BlockParams p = pre_activation.params();
            if (options.with_rounding) {
              largest_[block] = float_of_bits(
                  reduce_and_measure(x, r, dy, p, bounds, terms, sum.data(), product.data(), n));
            } else {
              faq::kernels::reduce(x, r, dy, p, bounds, terms, sum.data(), product.data(), n);
            }
            if (with_dscale) reduce_scale(x, r, dy, p, rounding, scale_terms.data(), n);
          });
        });
      }
      if (with_dscale) of_scale[chunk] = std::accumulate(scale_terms.begin(), scale_terms.end(), 0.0);
      blocks_.fold(sum.data(), length, sums.of(chunk));
      blocks_.fold(product.data(), length, products.of(chunk));
    }
  });
  dscale_ = std::accumulate(of_scale.begin(), of_scale.end(), 0.0);

  Sums total{std::vector<double>(of.count()), std::vector<double>(of.count())};
  parallel_for(channels, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t chunk = 0; chunk < chunks.count(); ++chunk) {
      for (std::int64_t ch = begin; ch < end; ++ch) {
        total.dz[ch] += sums.of(chunk)[ch];
        total.dz_x[ch] += products.of(chunk)[ch];
      }
    }
  });
  return total;
}

//   dx = γ/σ · (dz − mean(dz) − x̂·mean(dz·x̂)),  x̂ = (x − μ)/σ.
void NormActBackward::derive(const Sums& sums, const Channels& of, const NormActBackwardOptions& options) {
  const auto rows = static_cast<double>(blocks_.rows());
  const double deviations = std::min(6.0, std::sqrt(rows));  // no value is further than √rows
  float* dgamma = dgamma_.mutable_data<float>();
  float* dbeta = dbeta_.mutable_data<float>();
  std::vector<float> b(of.count()), c(of.count());
  for (std::size_t ch = 0; ch < of.count(); ++ch) {
    const double sum = sums.dz[ch];
    const double sum_xhat = sums.dz_x[ch] * of.x_scales[ch] * of.inverse_sigma[ch];
    dgamma[ch] = static_cast<float>(sum_xhat);
    dbeta[ch] = static_cast<float>(sum);
    if (!options.batch_statistics) continue;
    const double factor = of.gamma[ch] * of.inverse_sigma[ch];
    const double slope = -factor * of.inverse_sigma[ch] * sum_xhat / rows;
    b[ch] = static_cast<float>(slope * of.x_scales[ch]) * of.factors[ch];
    c[ch] = static_cast<float>(-factor * sum / rows - slope * of.mean[ch]) * of.factors[ch];
    if (!options.with_rounding) continue;
    const double rest =
        std::abs(factor * of.factors[ch]) * (std::abs(sum) + deviations * std::abs(sum_xhat)) / rows;
    largest_rest_ = larger_or_nan(largest_rest_, static_cast<float>(rest));
  }
  b_ = blocks_.repeat(b.data());
  c_ = blocks_.repeat(c.data());
}

void NormActBackward::for_each_block(std::int64_t begin_image, std::int64_t end_image,
                                     const std::function<void(const Block&)>& body) const {
  const std::int64_t image = x_.numel() / std::max<std::int64_t>(x_.dim(0), 1);
  const std::int64_t length = blocks_.length();
  const std::int64_t of_image = divided_up(image, length);
  const PreActivation pre_activation(x_, params_, blocks_);
  const Bounds bounds = pass_bounds(params_);
  parallel_for((end_image - begin_image) * of_image, 4, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<float> scratch, dx(length), dresidual(length);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t from = i % of_image * length;
      const std::int64_t offset = (begin_image + i / of_image) * image + from;
      const std::int64_t n = std::min(length, image - from);
      pre_activation.at(offset, n, scratch, [&](const auto* x, const auto* r) {
        with_gradient(dy_, offset, [&](const auto* dy) {
          gradient(x, r, dy, pre_activation.params(), bounds, {a_.data(), b_.data(), c_.data()}, dx.data(),
                   dresidual.data(), n);
        });
      });
      body({begin_image + i / of_image, offset - begin_image * image, n, dx.data(), dresidual.data()});
    }
  });
}

void NormActBackward::apply(std::int64_t begin, std::int64_t end, Tensor& dx, Tensor& dresidual,
                            bool adds) const {
  const Booked booked(Work::fused);
  const std::int64_t elements = (end - begin) * (x_.numel() / std::max<std::int64_t>(x_.dim(0), 1));
  check(dx.numel() == elements && (!dresidual || dresidual.numel() == elements),
        "norm_act backward: ", dx.shape(), " for ", end - begin, " images of ", x_.shape());
  void* dx_out = dx.mutable_raw();
  void* dresidual_out = dresidual ? dresidual.mutable_raw() : nullptr;
  for_each_block(begin, end, [&](const Block& b) {
    if (dresidual_out) store_block(dresidual_out, dresidual.dtype(), b.offset, b.n, b.dresidual);
    if (adds) with_gradient(dx, b.offset, [&](const auto* there) { add(there, b.dx, b.n); });
    store_block(dx_out, dx.dtype(), b.offset, b.n, b.dx);
  });
}

}  // namespace faq::kernels
