#include "core/kernels/depthwise_gradient.h"

#include <algorithm>
#include <vector>

#include "core/aligned_vector.h"
#include "core/division.h"
#include "core/kernels/element.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// Channels that are worked on together: a constant, so that loops over them vectorise, and so few that some
// rows of them stay in the first-level cache.
constexpr std::int64_t block = 32;
constexpr int pixels = 4;  // of an output row, whose products are added before they go into the sums

// out[pixel][0 … n) = in[pixel·stride + 0 … n).
template <class T>
[[gnu::always_inline]] inline void load_pixels(const T* in, std::int64_t stride, std::int64_t count,
                                               std::int64_t n, float* __restrict out) {
  for (std::int64_t pixel = 0; pixel < count; ++pixel, in += stride, out += block) {
    if (n == block) {
      for (std::int64_t c = 0; c < block; ++c) out[c] = element(in, c);
    } else {
      for (std::int64_t c = 0; c < n; ++c) out[c] = element(in, c);
    }
  }
}
FAQ_SIMD void load(const std::uint8_t* in, std::int64_t stride, std::int64_t count, std::int64_t n,
                   float* out) {
  load_pixels(in, stride, count, n, out);
}
FAQ_SIMD void load(const std::int8_t* in, std::int64_t stride, std::int64_t count, std::int64_t n,
                   float* out) {
  load_pixels(in, stride, count, n, out);
}
FAQ_SIMD void load(const bfloat16* in, std::int64_t stride, std::int64_t count, std::int64_t n, float* out) {
  load_pixels(in, stride, count, n, out);
}
FAQ_SIMD void load(const float* in, std::int64_t stride, std::int64_t count, std::int64_t n, float* out) {
  load_pixels(in, stride, count, n, out);
}

// sums[tap] += Σ over pixels of x[pixel·stride + tap·step]·dy[pixel], four pixels at a time.
template <int taps>
[[gnu::always_inline]] inline void add_taps(const float* x, std::int64_t stride, std::int64_t step,
                                            const float* dy, std::int64_t count, float* __restrict sums) {
  for (std::int64_t pixel = 0; pixel < count; pixel += pixels) {
    const float* column = x + pixel * stride * block;
    const float* gradient = dy + pixel * block;
    for (std::int64_t c = 0; c < block; ++c) {
      const float g0 = gradient[c], g1 = gradient[block + c], g2 = gradient[2 * block + c],
                  g3 = gradient[3 * block + c];
#pragma GCC unroll 8
      for (int tap = 0; tap < taps; ++tap) {
        const float* value = column + tap * step * block + c;
        sums[tap * block + c] += (value[0] * g0 + value[stride * block] * g1) +
                                 (value[2 * stride * block] * g2 + value[3 * stride * block] * g3);
      }
    }
  }
}
FAQ_SIMD void add_row(const float* x, std::int64_t stride, std::int64_t step, const float* dy,
                      std::int64_t count, std::int64_t taps, float* sums) {
  if (stride == 1 && step == 1 && taps == 3) return add_taps<3>(x, 1, 1, dy, count, sums);
  if (stride == 2 && step == 1 && taps == 3) return add_taps<3>(x, 2, 1, dy, count, sums);
  if (stride == 1 && step == 1 && taps == 5) return add_taps<5>(x, 1, 1, dy, count, sums);
  if (stride == 2 && step == 1 && taps == 5) return add_taps<5>(x, 2, 1, dy, count, sums);
  for (std::int64_t tap = 0; tap < taps; ++tap)
    add_taps<1>(x + tap * step * block, stride, step, dy, count, sums + tap * block);
}

FAQ_SIMD void move_sums(float* __restrict sums, float* __restrict totals, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    totals[i] += sums[i];
    sums[i] = 0;
  }
}

// Loads pixels of a row of images N,H,W,C, channels [first, first + n).
void load_row(const Tensor& images, std::int64_t row, std::int64_t first, std::int64_t n, float* out) {
  const std::int64_t width = images.dim(2), channels = images.dim(3);
  const std::int64_t at = row * width * channels + first;
  switch (images.dtype()) {
    case DType::u8:
      return load(images.data<std::uint8_t>() + at, channels, width, n, out);
    case DType::s8:
      return load(images.data<std::int8_t>() + at, channels, width, n, out);
    case DType::bf16:
      return load(images.data<bfloat16>() + at, channels, width, n, out);
    default:
      return load(images.data<float>() + at, channels, width, n, out);
  }
}

// The rows of one block of channels that are worked on, in f32, with zeros where an image or a row has ended.
class Rows {
 public:
  Rows(const Tensor& x, const Tensor& dy, const ConvGeometry& geometry)
      : x_(x),
        dy_(dy),
        geometry_(geometry),
        height_(x.dim(1)),
        kept_(geometry.window().height),
        length_(std::max<std::int64_t>(x.dim(2) + geometry.padding.left,
                                       (padded(dy.dim(2)) - 1) * geometry.stride + geometry.window().width) *
                block),
        x_rows_(static_cast<std::size_t>(kept_ * length_)),
        dy_row_(static_cast<std::size_t>(padded(dy.dim(2)) * block)) {}

  /// Adds the products of image `n`, channels [first, first + count).
  void add(std::int64_t n, std::int64_t first, std::int64_t count, float* sums) {
    const std::int64_t rows = dy_.dim(1);
    const Extent kernel = geometry_.kernel;
    std::int64_t loaded = 0;
    for (std::int64_t row = 0; row < rows; ++row) {
      load_row(dy_, n * rows + row, first, count, dy_row_.data());
      const std::int64_t top = row * geometry_.stride - geometry_.padding.top;
      const std::int64_t end = std::min(top + kept_, height_);
      for (loaded = std::max(loaded, top); loaded < end; ++loaded)
        load_row(x_, n * height_ + loaded, first, count, x_row(loaded) + geometry_.padding.left * block);
      for (int tap = 0; tap < kernel.height; ++tap) {
        const std::int64_t at = top + tap * geometry_.dilation.height;
        if (at < 0 || at >= height_) continue;
        add_row(x_row(at), geometry_.stride, geometry_.dilation.width, dy_row_.data(), dy_.dim(2),
                kernel.width, sums + tap * kernel.width * block);
      }
    }
  }

  /// Before another block: rows of fewer channels than the last one's would leave some behind.
  void clear() {
    std::ranges::fill(x_rows_, 0.0f);
    std::ranges::fill(dy_row_, 0.0f);
  }

 private:
  static std::int64_t padded(std::int64_t width) { return multiple_of(pixels, width); }
  float* x_row(std::int64_t row) { return x_rows_.data() + row % kept_ * length_; }

  const Tensor& x_;
  const Tensor& dy_;
  const ConvGeometry geometry_;
  const std::int64_t height_, kept_, length_;
  AlignedVector<float> x_rows_;  ///< the last rows that were loaded
  AlignedVector<float> dy_row_;
};

}  // namespace

bool DepthwiseGradient::suits(const Shape& weights, const ConvGeometry& geometry) {
  const bool is_depthwise = geometry.groups > 1 && weights[0] == geometry.groups && weights[1] == 1;
  return is_depthwise && (weights[2] > 3 || weights[3] > 3);
}

DepthwiseGradient::DepthwiseGradient(const Shape& weights, const ConvGeometry& geometry)
    : weights_(weights),
      geometry_(geometry.of(weights)),
      sums_(Tensor::zeros({weights[2], weights[3], weights[0]})) {}

void DepthwiseGradient::add(const Tensor& x, const Tensor& dy) {
  const Booked booked(Work::convolution);
  const std::int64_t channels = weights_[0], taps = weights_[2] * weights_[3];
  float* sums = sums_.mutable_data<float>();
  parallel_for(divided_up(channels, block), 1, [&](std::int64_t begin, std::int64_t end) {
    Rows rows(x, dy, geometry_);
    std::vector<float> of_image(static_cast<std::size_t>(taps * block)), of_block(of_image.size());
    for (std::int64_t first = begin * block; first < std::min(end * block, channels); first += block) {
      const std::int64_t count = std::min(block, channels - first);
      if (count < block) rows.clear();
      std::ranges::fill(of_block, 0.0f);
      for (std::int64_t n = 0; n < x.dim(0); ++n) {
        rows.add(n, first, count, of_image.data());
        move_sums(of_image.data(), of_block.data(), taps * block);
      }
      for (std::int64_t tap = 0; tap < taps; ++tap)
        for (std::int64_t c = 0; c < count; ++c)
          sums[tap * channels + first + c] += of_block[tap * block + c];
    }
  });
}

void DepthwiseGradient::add(const DepthwiseGradient& part) { add_in_place(sums_, part.sums_); }

Tensor DepthwiseGradient::sum() const {
  Tensor dw = Tensor::empty(weights_);
  const std::int64_t channels = weights_[0], taps = weights_[2] * weights_[3];
  const float* from = sums_.data<float>();
  float* to = dw.mutable_data<float>();
  for (std::int64_t c = 0; c < channels; ++c)
    for (std::int64_t tap = 0; tap < taps; ++tap) to[c * taps + tap] = from[tap * channels + c];
  return dw;
}

}  // namespace faq::kernels
