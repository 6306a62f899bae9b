// Batch normalisation, fused with the rest of a unit: residual sum, activation, quantization. The input is
// f32, or integers with a scale (value = integer × scale): the accumulators of a convolution, s32, or s16
// when they fit; or integers that were quantized before, u8 or s8.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "core/activation.h"
#include "core/aligned_vector.h"
#include "core/kernels/rounded_gradient.h"
#include "core/kernels/statistics.h"
#include "core/tensor.h"

namespace faq::kernels {

/// The parameters of what a unit does after its convolution: z = x·scale + shift + residual, then clipping
/// and quantization.
struct NormActParams {
  Tensor scale;     ///< C, f32: γ/√(σ²+ε); a factor of the values, not of the integers
  Tensor shift;     ///< C, f32: β − μ·γ/√(σ²+ε)
  Tensor residual;  ///< the shape of x; f32, bf16, or integer with a scale; undefined: none
  Activation activation = Activation::relu;
  std::optional<FixedPoint> format;  ///< if set, the result is quantized to u8 (s8 when signed)
  Tensor x_scales = {};  ///< C, f32: the scales of the integers of x, where each channel has its own
};

/// The forward pass in training and in floating point, computed in f32. Returns f32, or u8/s8 with
/// params.format.
Tensor norm_act(const Tensor& x, const NormActParams& params);

struct NormActBackwardOptions {
  bool batch_statistics =
      true;                    ///< the gradient flows through mean and variance; otherwise they are constants
  bool with_dscale = false;    ///< also computes dscale(); params must have a format
  bool with_rounding = false;  ///< also computes what apply_rounded() wants
  /// C, f32; undefined: ones. What dx is multiplied by. With the scales of a convolution's weights it is what
  /// the bare integers of the weights are multiplied with.
  Tensor factors = {};
};

/// The gradient of norm_act(batch-norm(x)). It takes two passes: the constructor reduces over the batch, then
/// apply() writes the gradients of any images. Both passes compute the mask of activation and clipping again
/// from x, so only x and the residual are saved. The mask is straight-through: 1 inside the representable
/// range, without the lower end of the activation.
class NormActBackward {
 public:
  /// dy: f32 or bf16.
  NormActBackward(const Tensor& dy, const Tensor& x, const NormActParams& params,
                  const ChannelStatistics& statistics, const Tensor& gamma, float eps,
                  const NormActBackwardOptions& options = {});

  const Tensor& dgamma() const { return dgamma_; }  ///< C, f32
  const Tensor& dbeta() const { return dbeta_; }    ///< C, f32
  /// The gradient of the scale of the output's format (LSQ, equation 3), with u = activation(z) and q the
  /// integers of y: Σ dy·(q − u/scale) where u is inside the range of the format, Σ dy·q elsewhere.
  double dscale() const { return dscale_; }

  /// Writes the gradients of images [begin, end) to dx and dresidual (undefined: not wanted), which have the
  /// size for just these images; f32 or bf16. dx is the gradient with respect to the real value of x. `adds`:
  /// it is added to what dx is, in f32, before it is rounded.
  void apply(std::int64_t begin, std::int64_t end, Tensor& dx, Tensor& dresidual, bool adds = false) const;
  /// The same with dx in 8 bits, rounded as rounded() does it. The scale is not that of the largest dx, which
  /// only a pass of its own would find, but of a bound that the constructor has computed on the way:
  ///   the largest |a·dz| of these images (dx = a·dz + b·x + c) + the largest |b·x + c| at six deviations.
  /// Where a value is further out, dx may be clipped.
  RoundedGradient apply_rounded(std::int64_t begin, std::int64_t end, const RoundingKeys& keys,
                                Tensor& dresidual) const;

 private:
  /// Elements [offset, offset + n) from the beginning of the first image, all of image `image`.
  struct Block {
    std::int64_t image, offset, n;
    float* dx;
    const float* dresidual;
  };
  /// Computes the gradients of images [begin, end) in blocks that stay in the first-level cache, in several
  /// threads.
  void for_each_block(std::int64_t begin, std::int64_t end,
                      const std::function<void(const Block&)>& body) const;
  struct Channels;
  /// By channel.
  struct Sums {
    std::vector<double> dz;
    std::vector<double> dz_x;  ///< dz·(x − μ), in units of x
  };
  Sums reduce(const Channels& of, const NormActBackwardOptions& options);
  void derive(const Sums& sums, const Channels& of, const NormActBackwardOptions& options);
  /// The bound of |dx| of images [begin, end).
  float largest_dx(std::int64_t begin, std::int64_t end) const;

  Tensor dy_, x_;
  NormActParams params_;
  ChannelBlocks blocks_;
  Tensor dgamma_, dbeta_;
  double dscale_ = 0;
  AlignedVector<float> a_, b_, c_;  ///< dx = a·dz + b·x + c; repeated to the length of a block
  std::vector<float> largest_;      ///< |a·dz| of each block
  float largest_rest_ = 0;          ///< |b·x + c|
};

}  // namespace faq::kernels
