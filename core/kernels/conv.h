// 2-D convolution, floating point and exact integers, by oneDNN but for one gradient (paired_gradient.h).
// Images N,H,W,C, weights O,I,H,W.
#pragma once

#include <ostream>
#include <vector>

#include "core/tensor.h"

namespace faq {

/// Of a kernel or a border; one number stands for both.
struct Extent {
  int height;
  int width;
  constexpr Extent(int both) : height(both), width(both) {}
  constexpr Extent(int h, int w) : height(h), width(w) {}
  bool operator==(const Extent&) const = default;
};
inline std::ostream& operator<<(std::ostream& out, const Extent& extent) {
  return out << extent.height << "×" << extent.width;
}

struct ConvOptions {
  int stride = 1;
  Extent padding = 0;
};

/// How integer convolutions are computed. Both give the same integers.
enum class Engine {
  integer,   ///< u8·s8 kernels
  simulated  ///< f32 convolution of the integers: any CPU, exact because every sum stays below 2^24
};

}  // namespace faq

namespace faq::kernels {

/// The shape of the output; throws when the kernel does not fit the padded image.
Shape conv2d_shape(const Shape& x, const Shape& weights, const ConvOptions& options);

/// x and weights of one dtype, f32 or bf16; returns f32.
Tensor conv2d(const Tensor& x, const Tensor& weights, const ConvOptions& options);

/// x: u8 or s8, weights: s8; returns s32 accumulators, every one exact. They carry no scale.
///
/// Exactness (design.md, numerical contract 2). oneDNN may pass accumulators through f32, exact below 2^24,
/// and without VNNI adds pairs of products in saturating 16 bits, exact while |w| ≤ 64. Weights that could
/// leave these bounds are split into addends that cannot, whose convolutions are summed in s32; with VNNI
/// only when a result lies beyond them. Signed inputs are shifted into u8 and corrected.
Tensor conv2d_integer(const Tensor& x, const Tensor& weights, const ConvOptions& options, Engine engine);

/// The same into y, which is s32 and has the right shape.
void conv2d_integer(const Tensor& x, const Tensor& weights, const ConvOptions& options, Engine engine,
                    Tensor& y);

/// Gradient of the input, in `dtype` (f32 or bf16). dy and weights of one dtype, f32 or bf16.
Tensor conv2d_backward_data(const Tensor& dy, const Tensor& weights, const Shape& x,
                            const ConvOptions& options, DType dtype);
/// The same into dx, in its dtype.
void conv2d_backward_data(const Tensor& dy, const Tensor& weights, const ConvOptions& options, Tensor& dx);

/// Gradient of the weights, f32, O,I,H,W. dy: f32 or bf16; x: the same, or u8 or s8, whose bare integers
/// count.
Tensor conv2d_backward_weights(const Tensor& x, const Tensor& dy, const Shape& weights,
                               const ConvOptions& options);

/// The gradient of the weights added up from parts of a batch. The parts of one share are added in turn,
/// different shares by any threads at the same time, and summed in their order: the result depends on how the
/// batch was divided, not on who came first.
class WeightGradient {
 public:
  WeightGradient(const Shape& weights, const ConvOptions& options, int shares);
  ~WeightGradient();
  WeightGradient(const WeightGradient&) = delete;
  WeightGradient& operator=(const WeightGradient&) = delete;

  /// Some images and the gradients of their outputs: dtypes as for conv2d_backward_weights().
  void add(const Tensor& x, const Tensor& dy, int share);
  /// O,I,H,W, f32; nothing may be added any more. Precondition: something was.
  Tensor sum();

 private:
  struct Share;
  Shape weights_;
  ConvOptions options_;
  std::vector<Share> shares_;
};

/// s8 weights as few s8 addends whose magnitudes stay within `max_magnitude` and whose sums with
/// inputs of 0 to `max_input`, in whatever order, stay within ±2^24: that is, the positive and the negative
/// weights of an output channel, each for themselves, bounded from their sums and counts. Exposed for its
/// test.
std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude);

/// s8 O,I,H,W weights that show where a kernel rounds partial sums to f32. With inputs of 255, each output
/// channel sums first as many positive weights of 127 or 126 as its whole sum, the negative ones included,
/// can have below 2^24: most partial sums are then beyond 2^24, half of them odd, where filters are long
/// enough for that. Exposed for its test.
Tensor rounding_probe(const Shape& weights);

}  // namespace faq::kernels
