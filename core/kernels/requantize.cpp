#include "core/kernels/requantize.h"

#include <algorithm>
#include <vector>

#include "core/kernels/block.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
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
  const Booked booked(Work::fused);
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
