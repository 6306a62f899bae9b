#include "core/kernels/block.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <algorithm>
#include <cstring>

#include "core/allocator.h"
#include "core/kernels/element.h"
#include "core/kernels/simd.h"

namespace faq::kernels {
namespace {

FAQ_SIMD void load_bf16(const bfloat16* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = float_of_bits(std::uint32_t{in[i].bits} << 16);
}
FAQ_SIMD void load_s32(const std::int32_t* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(in[i]);
}
FAQ_SIMD void load_s16(const std::int16_t* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i];
}
FAQ_SIMD void load_s8(const std::int8_t* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i];
}
FAQ_SIMD void load_u8(const std::uint8_t* in, std::int64_t n, float* out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = in[i];
}

FAQ_SIMD void add_rows(const float* rows, std::int64_t n, std::int64_t channels, double* __restrict sums) {
  for (std::int64_t row = 0; row < n; row += channels) {
    for (std::int64_t c = 0; c < channels; ++c) sums[c] += rows[row + c];
  }
}

FAQ_SIMD void store_bf16_portable(bfloat16* out, std::int64_t n, const float* in) {
  for (std::int64_t i = 0; i < n; ++i) {
    const std::uint32_t bits = bits_of_float(in[i]);
    const std::uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
    const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
    out[i].bits = static_cast<std::uint16_t>((nan ? bits | 0x00400000u : rounded) >> 16);
  }
}
#if defined(__x86_64__)
// Uses one instruction where the CPU has it. The instruction treats denormals as zero, so blocks with
// denormals use the portable loop.
__attribute__((target("avx512f,avx512dq,avx512bf16"))) void store_bf16_native(bfloat16* out, std::int64_t n,
                                                                              const float* in) {
  constexpr int denormal = 0x20;
  std::int64_t i = 0;
  for (; i + 32 <= n; i += 32) {
    const __m512 low = _mm512_loadu_ps(in + i), high = _mm512_loadu_ps(in + i + 16);
    if (_mm512_fpclass_ps_mask(low, denormal) | _mm512_fpclass_ps_mask(high, denormal)) {
      store_bf16_portable(out + i, 32, in + i);
      continue;
    }
    const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
    std::memcpy(static_cast<void*>(out + i), &both, sizeof both);
  }
  store_bf16_portable(out + i, n - i, in + i);
}
#endif

void store_bf16(bfloat16* out, std::int64_t n, const float* in) {
#if defined(__x86_64__)
  static const bool native = __builtin_cpu_supports("avx512bf16");
  if (native) return store_bf16_native(out, n, in);
#endif
  store_bf16_portable(out, n, in);
}

FAQ_SIMD void store_s32(std::int32_t* out, std::int64_t n, const float* in) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<std::int32_t>(in[i]);
}
FAQ_SIMD void store_s16(std::int16_t* out, std::int64_t n, const float* in) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<std::int16_t>(static_cast<std::int32_t>(in[i]));
}
FAQ_SIMD void store_s8(std::int8_t* out, std::int64_t n, const float* in) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(in[i]));
}
FAQ_SIMD void store_u8(std::uint8_t* out, std::int64_t n, const float* in) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<std::uint8_t>(static_cast<std::int32_t>(in[i]));
}

}  // namespace

void load_block(const void* base, DType dtype, std::int64_t offset, std::int64_t n, float* out) {
  switch (dtype) {
    case DType::f32:
      std::copy_n(static_cast<const float*>(base) + offset, n, out);
      return;
    case DType::bf16:
      return load_bf16(static_cast<const bfloat16*>(base) + offset, n, out);
    case DType::s32:
      return load_s32(static_cast<const std::int32_t*>(base) + offset, n, out);
    case DType::s16:
      return load_s16(static_cast<const std::int16_t*>(base) + offset, n, out);
    case DType::s8:
      return load_s8(static_cast<const std::int8_t*>(base) + offset, n, out);
    case DType::u8:
      return load_u8(static_cast<const std::uint8_t*>(base) + offset, n, out);
  }
}

void load_block(const Tensor& tensor, std::int64_t offset, std::int64_t n, float* out) {
  load_block(tensor.raw(), tensor.dtype(), offset, n, out);
}

void store_block(void* base, DType dtype, std::int64_t offset, std::int64_t n, const float* in) {
  switch (dtype) {
    case DType::f32:
      std::copy_n(in, n, static_cast<float*>(base) + offset);
      return;
    case DType::bf16:
      return store_bf16(static_cast<bfloat16*>(base) + offset, n, in);
    case DType::s32:
      return store_s32(static_cast<std::int32_t*>(base) + offset, n, in);
    case DType::s16:
      return store_s16(static_cast<std::int16_t*>(base) + offset, n, in);
    case DType::s8:
      return store_s8(static_cast<std::int8_t*>(base) + offset, n, in);
    case DType::u8:
      return store_u8(static_cast<std::uint8_t*>(base) + offset, n, in);
  }
}

Tensor like(const Tensor& x, const Shape& shape, DType dtype) {
  Tensor t = Tensor::empty(shape, dtype);
  if (x.is_fixed_point()) t.set_fixed_point(x.fixed_point());
  return t;
}

void expect_place(const char* what, const Tensor& out, const Shape& shape, DType dtype) {
  check(out.shape() == shape && out.dtype() == dtype, what, ": ", dtype, " ", shape, " into ", out.dtype(),
        " ", out.shape());
}

void check_channels(const char* what, const Tensor& vector, std::int64_t channels) {
  check(vector.numel() == channels, what, ": expected ", channels, " per-channel values, got ",
        vector.shape());
}

ChannelBlocks::ChannelBlocks(const Shape& shape, std::int64_t rows_per_block) {
  check(shape.rank() >= 2, "channel blocks: expected at least two dimensions, got ", shape);
  channels_ = shape[shape.rank() - 1];
  check(channels_ > 0, "channel blocks: no channels in ", shape);
  rows_ = shape.numel() / channels_;
  rows_per_block_ = rows_per_block > 0 ? rows_per_block : std::max<std::int64_t>(1, block_length / channels_);
}

std::int64_t ChannelBlocks::size(std::int64_t block) const {
  return std::min(length(), rows_ * channels_ - offset(block));
}

void ChannelBlocks::repeat(const float* per_channel, float* repeated) const {
  for (std::int64_t row = 0; row < length(); row += channels_)
    std::copy_n(per_channel, channels_, repeated + row);
}

AlignedVector<float> ChannelBlocks::repeat(const float* per_channel) const {
  AlignedVector<float> repeated(static_cast<std::size_t>(length()));
  repeat(per_channel, repeated.data());
  return repeated;
}

void ChannelBlocks::fold(const float* values, std::int64_t n, double* per_channel) const {
  std::fill_n(per_channel, channels_, 0.0);
  add_rows(values, n, channels_, per_channel);
}

ChunkValues::ChunkValues(std::int64_t chunks, std::int64_t channels)
    : channels_(channels),
      memory_(allocate(static_cast<std::size_t>(chunks * channels) * sizeof(double))),
      values_(reinterpret_cast<double*>(memory_.get())) {}

}  // namespace faq::kernels
