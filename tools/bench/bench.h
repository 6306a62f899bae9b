// What the kernel benchmarks share: how they are added, and what their operands hold.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "core/tensor.h"

namespace faq::bench {

/// What one call of a kernel does; its rates are reported. 0: is not.
struct Work {
  std::int64_t items = 0;  ///< images, where nothing else is said
  std::int64_t bytes = 0;  ///< as if each operand were read or written once for each pass over it
  double operations = 0;   ///< multiplications and additions
};

using Kernel = std::function<void()>;

/// Adds a benchmark called topic/row. `prepare` makes the operands and returns the kernel, which is called
/// once before it is timed: that makes primitives and packs weights. The time is that of the clock on the
/// wall, as kernels have threads of their own.
void add(const std::string& name, const Work& work, std::function<Kernel()> prepare);

/// Integers of a whole format, in no order, the same every time: u8, or s8 when it is signed.
Tensor quantized(const Shape& shape, const FixedPoint& format);
/// The same as a convolution's sums: s16 or s32, within ±`magnitude`, with a scale.
Tensor sums(const Shape& shape, DType dtype, int magnitude);
/// Multiples of 1/128 in [-1, 1], f32 or bf16.
Tensor reals(const Shape& shape, DType dtype);

// The topics, each of one file: they add their benchmarks.
void add_conv_forward();
void add_conv_backward();
void add_onednn();
void add_unit();
void add_quantize();
void add_pool();
void add_sgd();
void add_images();

}  // namespace faq::bench
