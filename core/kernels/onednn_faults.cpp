#include "core/kernels/onednn_faults.h"

#include <cstdint>

#include "core/cpu.h"
#include "core/division.h"

namespace faq::kernels::onednn {
namespace {

bool has_one_tap(const ConvProblem& p) { return p.weights[2] == 1 && p.weights[3] == 1; }

// 2.6.3 has not got the registers for images of five pixels and 512 outputs or so, and computes other sums.
bool has_five_pixels(const ConvProblem& p) { return !has_vnni() && p.y[1] * p.y[2] == 5; }

// With a stride, 2.6.3 copies the pixels that it uses, and below AVX-512 in units of 16 channels, or of 8
// where there is no AVX2. What lies beyond a thread's copy is in the copy of the next thread.
bool copies_beyond(const ConvProblem& p) { return p.geometry.stride > 1 && p.x[3] % 16 != 0; }

// 2.6.3 calls a kernel that it has not made if what is missing to full blocks of 64 channels is less than
// four.
bool has_almost_full_block(const ConvProblem& p) {
  const bool is_integer = p.source == DType::u8 || p.source == DType::s8;
  return is_integer && p.weights[1] % 64 > 60;
}

// 3.7.2 does not take the shift of signed images out of windows that reach over a border at the side, where
// the first row has none above it: TensorFlow's padding "SAME" with stride 2, for one.
bool has_borders_at_sides_alone(const ConvProblem& p) {
  const Padding& padding = p.geometry.padding;
  return p.source == DType::s8 && p.weights[2] > 1 && padding.top == 0 && padding.left + padding.right > 0;
}

// 2.6.3 adds products with other pixels where pairs of outputs leave one over.
bool has_odd_outputs(const ConvProblem& p) { return p.weights[0] / p.geometry.groups % 2 != 0; }

// True if each tap, in one dimension, sees an input in some output's window.
bool sees_by_all_taps(std::int64_t inputs, std::int64_t outputs, std::int64_t taps, int stride, int padding,
                      int dilation) {
  for (std::int64_t tap = 0; tap < taps; ++tap) {
    const std::int64_t shift = padding - tap * dilation;  // output y sees input y·stride − shift
    const std::int64_t first = shift > 0 ? divided_up(shift, stride) : 0;
    if (first >= outputs || first * stride - shift >= inputs) return false;
  }
  return true;
}

// 2.6.3, and with AMX 3.7.2, have garbage for taps that lie in the border in every window.
bool has_blind_taps(const ConvProblem& p) {
  const ConvGeometry& g = p.geometry;
  return !sees_by_all_taps(p.x[1], p.y[1], p.weights[2], g.stride, g.padding.top, g.dilation.height) ||
         !sees_by_all_taps(p.x[2], p.y[2], p.weights[3], g.stride, g.padding.left, g.dilation.width);
}

// 2.6.3 takes other pixels than those that the holes leave, even where there is one tap.
bool is_dilated(const ConvProblem& p) { return !(p.geometry.dilation == Extent(1)); }

// 2.6.3 copies the rows that a thread uses of an image. With a stride it leaves some out, and its zeros below
// the image reach into the next thread's copy.
bool has_a_stride(const ConvProblem& p) { return p.geometry.stride > 1; }

// 3.7.2 computes the first output of a single column alone.
bool strides_down_one_column(const ConvProblem& p) { return p.geometry.stride > 1 && p.y[2] == 1; }

// 2.6.3 writes beyond its scratchpad where strides skip pixels of less than a vector of channels.
bool skips_parts_of_vectors(const ConvProblem& p) {
  return has_one_tap(p) && p.geometry.stride > 1 && p.x[3] < 16;
}

constexpr Fault forward[] = {{"jit_int8_1x1:avx512", has_five_pixels},
                             {"jit_uni_int8_1x1", copies_beyond},
                             {"brgconv:", has_almost_full_block},
                             {"brg_conv_fwd", has_borders_at_sides_alone},
                             {"brgconv:avx512_core_amx", has_a_stride},
                             {"brg_conv_fwd:avx512_core_amx", strides_down_one_column},
                             {"brg_conv_fwd:avx10_1_512_amx", strides_down_one_column}};
constexpr Fault backward_data[] = {{"jit_bf16_1x1", has_odd_outputs}};
constexpr Fault backward_weights[] = {
    {"jit_bf16", has_blind_taps},        {"jit:avx512_core_amx", has_blind_taps},
    {"brgconv_bwd_w:", has_blind_taps},  {"jit:avx10_1_512_amx", has_blind_taps},
    {"jit:avx512_core_amx", is_dilated}, {"1x1", skips_parts_of_vectors}};

}  // namespace

std::span<const Fault> forward_faults() { return forward; }
std::span<const Fault> backward_data_faults() { return backward_data; }
std::span<const Fault> backward_weights_faults() { return backward_weights; }

}  // namespace faq::kernels::onednn
