#include "core/kernels/requantize.h"

#include "core/kernels/block.h"

namespace faq::kernels {

Tensor dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias) {
  Tensor out = Tensor::empty(accumulators.shape());
  dequantize(accumulators, multiplier, bias, out);
  return out;
}

void dequantize(const Tensor& accumulators, const Tensor& multiplier, const Tensor& bias, Tensor& out) {
  const ChannelBlocks blocks(accumulators.shape());
  check_channels("dequantize: multiplier", multiplier, blocks.channels());
  check_channels("dequantize: bias", bias, blocks.channels());
  expect_place("dequantize", out, accumulators.shape(), DType::f32);
  const std::int32_t* acc = accumulators.data<std::int32_t>();
  const float* m = multiplier.data<float>();
  const float* b = bias.data<float>();
  float* values = out.mutable_data<float>();
  for (std::int64_t i = 0; i < accumulators.numel(); ++i) {
    const std::int64_t c = i % blocks.channels();
    values[i] = static_cast<float>(static_cast<double>(acc[i]) * m[c] + b[c]);
  }
}

}  // namespace faq::kernels
