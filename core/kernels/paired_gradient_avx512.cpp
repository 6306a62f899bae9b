#include "core/division.h"
#include "core/kernels/paired_gradient.h"

#include <immintrin.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// A vector register holds 16 output channels of dy. A block of 8 input channels and up to 3 taps of a row
// makes 24 sums. They stay in registers (there are 32) for all images of a group.
constexpr std::int64_t outputs = 16;
constexpr std::int64_t inputs = 8;
constexpr int max_taps = 3;
// For more output channels, oneDNN's kernel is as fast or faster (docs/performance.md, "What was tried").
constexpr std::int64_t max_outputs = 64;

// Taps of a row share one copy of the image if their first columns differ by whole pairs. Each tap reads the
// copy from its own position.
struct Copy {
  int first_column;  ///< column of the first pair; negative in the padding
  std::int64_t pairs;
};
struct Tap {
  std::size_t copy;
  std::int64_t first_pair;
};

struct Layout {
  std::int64_t height, width, out_height, out_width;
  std::int64_t out_pairs;  ///< pairs in a row of dy; if the width is odd, the last pixel is paired with zeros
  std::vector<Copy> copies;
  std::vector<Tap> taps;
};

// A pair belongs to two neighbouring outputs. Their inputs are one stride apart.
Layout layout_of(const Shape& x, const Shape& dy, std::int64_t kernel_width, const ConvGeometry& geometry) {
  Layout layout{x[1], x[2], dy[1], dy[2], (dy[2] + 1) / 2, {}, {}};
  for (int tap = 0; tap < kernel_width; ++tap) {
    const int column = tap - geometry.padding.left;
    const auto shared = std::ranges::find_if(
        layout.copies, [&](const Copy& c) { return (column - c.first_column) % (2 * geometry.stride) == 0; });
    const std::size_t index = static_cast<std::size_t>(shared - layout.copies.begin());
    if (shared == layout.copies.end()) layout.copies.push_back({column, 0});
    Copy& copy = layout.copies[index];
    const std::int64_t first = (column - copy.first_column) / (2 * geometry.stride);
    copy.pairs = std::max(copy.pairs, first + layout.out_pairs);
    layout.taps.push_back({index, first});
  }
  return layout;
}

#define FAQ_BF16_DOT __attribute__((target("avx512f,avx512bw,avx512vl,avx512bf16")))

template <class Element>
using Vector [[gnu::vector_size(outputs * sizeof(Element))]] = Element;
using Words = Vector<std::uint32_t>;

template <class Element>
FAQ_BF16_DOT inline Vector<Element> load(const Element* p) {
  Vector<Element> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Widens 16 integers. GCC 12 would convert bytes one by one, and without a mask it warns about its own
// header.
FAQ_BF16_DOT inline __m512i widened(const std::uint8_t* p) {
  return _mm512_maskz_cvtepu8_epi32(0xffff, reinterpret_cast<__m128i>(load(p)));
}
FAQ_BF16_DOT inline __m512i widened(const std::int8_t* p) {
  return _mm512_maskz_cvtepi8_epi32(0xffff, reinterpret_cast<__m128i>(load(p)));
}

// Returns 16 values as bf16 in the upper halves of 32 bits. For integers up to 256, the lower half of the f32
// is 0.
template <class Integer>
FAQ_BF16_DOT inline Words upper_halves(const Integer* p) {
  return reinterpret_cast<Words>(_mm512_maskz_cvtepi32_ps(0xffff, widened(p)));
}
FAQ_BF16_DOT inline Words upper_halves(const std::uint16_t* p) {
  return __builtin_convertvector(load(p), Words) << 16;
}

// Returns 16 channels of two pixels side by side. nullptr: a pixel of zeros.
template <class Element>
FAQ_BF16_DOT inline Words paired(const Element* first, const Element* second) {
  const Words low = first ? upper_halves(first) >> 16 : Words{};
  return second ? low | upper_halves(second) : low;
}

// Pairs a row of dy. `out`: 16 channels per pair; the next 16 channels are `block_stride` further on.
FAQ_BF16_DOT void pair_gradient_row(const std::uint16_t* row, std::int64_t width, std::int64_t channels,
                                    std::uint32_t* out, std::int64_t block_stride) {
  for (std::int64_t column = 0; column < width; column += 2, out += outputs) {
    const std::uint16_t* first = row + column * channels;
    const std::uint16_t* second = column + 1 < width ? first + channels : nullptr;
    for (std::int64_t c = 0; c < channels; c += outputs) {
      const Words both = paired(first + c, second ? second + c : nullptr);
      std::memcpy(out + c / outputs * block_stride, &both, sizeof both);
    }
  }
}

// Pairs a row of the input: 8 channels per pair.
template <class Element>
FAQ_BF16_DOT void pair_input_row(const Element* row, std::int64_t width, std::int64_t channels,
                                 const Copy& copy, int stride, std::uint32_t* out,
                                 std::int64_t block_stride) {
  const auto pixel = [&](std::int64_t column) {
    return column >= 0 && column < width ? row + column * channels : nullptr;
  };
  for (std::int64_t pair = 0; pair < copy.pairs; ++pair, out += inputs) {
    const Element* first = pixel(copy.first_column + 2 * pair * stride);
    const Element* second = pixel(copy.first_column + (2 * pair + 1) * stride);
    for (std::int64_t c = 0; c < channels; c += 2 * inputs) {
      const Words both = paired(first ? first + c : nullptr, second ? second + c : nullptr);
      std::uint32_t* block = out + c / inputs * block_stride;
      const auto first_half = __builtin_shufflevector(both, both, 0, 1, 2, 3, 4, 5, 6, 7);
      const auto second_half = __builtin_shufflevector(both, both, 8, 9, 10, 11, 12, 13, 14, 15);
      std::memcpy(block, &first_half, sizeof first_half);
      std::memcpy(block + block_stride, &second_half, sizeof second_half);
    }
  }
}

// The rows of up to three taps in both operands.
struct Rows {
  std::int64_t images, first, count;             ///< images, and the rows of the output in each
  std::int64_t dy_row, dy_image;                 ///< between rows and between images
  std::array<const std::uint32_t*, max_taps> x;  ///< of row `first` of the first image
  std::array<std::int64_t, max_taps> x_row, x_image;
  std::int64_t pairs;
};

// sums[tap][input][output] += Σ dy·x
template <int taps>
FAQ_BF16_DOT void add_products(const std::uint32_t* dy, const Rows& rows, float* sums) {
  __m512 sum[taps][inputs];
  for (int t = 0; t < taps; ++t) {
    for (int i = 0; i < inputs; ++i) sum[t][i] = _mm512_loadu_ps(sums + (t * inputs + i) * outputs);
  }
  for (std::int64_t image = 0; image < rows.images; ++image) {
    for (std::int64_t row = 0; row < rows.count; ++row) {
      const std::uint32_t* d = dy + image * rows.dy_image + (rows.first + row) * rows.dy_row;
      const std::uint32_t* x[taps];
      for (int t = 0; t < taps; ++t) x[t] = rows.x[t] + image * rows.x_image[t] + row * rows.x_row[t];
      for (std::int64_t pair = 0; pair < rows.pairs; ++pair) {
        const auto gradient = reinterpret_cast<__m512bh>(load(d + pair * outputs));
        for (int t = 0; t < taps; ++t) {
          for (int i = 0; i < inputs; ++i) {
            const auto input = reinterpret_cast<__m512bh>(Words{} + x[t][pair * inputs + i]);
            sum[t][i] = _mm512_dpbf16_ps(sum[t][i], gradient, input);
          }
        }
      }
    }
  }
  for (int t = 0; t < taps; ++t) {
    for (int i = 0; i < inputs; ++i) _mm512_storeu_ps(sums + (t * inputs + i) * outputs, sum[t][i]);
  }
}

using Pass = void (*)(const std::uint32_t*, const Rows&, float*);
constexpr std::array<Pass, max_taps> passes{add_products<1>, add_products<2>, add_products<3>};

// A group of paired images. The groups reuse the same memory one after the other.
class Group {
 public:
  /// `longest`: the number of images in the largest group.
  Group(const Layout& layout, std::int64_t longest, std::int64_t in_channels, std::int64_t out_channels)
      : layout_(layout), dy_row_(layout.out_pairs * outputs) {
    dy_ = Tensor::empty({out_channels * longest * layout.out_height * layout.out_pairs}, DType::s32);
    for (const Copy& copy : layout.copies)
      copies_.push_back(Tensor::empty({in_channels * longest * layout.height * copy.pairs}, DType::s32));
  }

  static std::int64_t bytes_per_image(const Layout& layout, std::int64_t in_channels,
                                      std::int64_t out_channels) {
    std::int64_t pairs = out_channels * layout.out_height * layout.out_pairs;
    for (const Copy& copy : layout.copies) pairs += in_channels * layout.height * copy.pairs;
    return pairs * 4;
  }

  /// Begins a new group of this many images (at most `longest`). The caller then fills it.
  void set_images(std::int64_t images) { images_ = images; }

  void fill_gradient(const std::uint16_t* dy, std::int64_t channels) {
    std::uint32_t* out = words(dy_);
    const std::int64_t rows = images_ * layout_.out_height;
    parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end) {
      for (std::int64_t r = begin; r < end; ++r)
        pair_gradient_row(dy + r * layout_.out_width * channels, layout_.out_width, channels,
                          out + r * dy_row_, rows * dy_row_);
    });
  }

  template <class Element>
  void fill_input(const Element* x, std::int64_t channels, int stride) {
    const std::int64_t rows = images_ * layout_.height;
    for (std::size_t i = 0; i < copies_.size(); ++i) {
      const Copy& copy = layout_.copies[i];
      const std::int64_t length = copy.pairs * inputs;
      std::uint32_t* out = words(copies_[i]);
      parallel_for(rows, 8, [&](std::int64_t begin, std::int64_t end) {
        for (std::int64_t r = begin; r < end; ++r)
          pair_input_row(x + r * layout_.width * channels, layout_.width, channels, copy, stride,
                         out + r * length, rows * length);
      });
    }
  }

  /// `sums`: the sums of one block of outputs, one row of the kernel and one block of inputs.
  void add_products(std::int64_t output_block, std::int64_t kernel_row, std::int64_t input_block,
                    const ConvGeometry& geometry, float* sums) const {
    // Output row r reads input row r·stride + up, if that row exists.
    const std::int64_t up = kernel_row - geometry.padding.top;
    const std::int64_t first = up < 0 ? (-up + geometry.stride - 1) / geometry.stride : 0;
    const std::int64_t past =
        layout_.height > up ? std::min(layout_.out_height, (layout_.height - up - 1) / geometry.stride + 1)
                            : 0;
    if (first >= past) return;
    const std::uint32_t* dy = words(dy_) + output_block * images_ * layout_.out_height * dy_row_;
    const std::int64_t taps = static_cast<std::int64_t>(layout_.taps.size());
    for (std::int64_t tap = 0; tap < taps; tap += max_taps) {
      const std::int64_t n = std::min<std::int64_t>(max_taps, taps - tap);
      Rows rows{images_, first, past - first, dy_row_,          layout_.out_height * dy_row_,
                {},      {},    {},           layout_.out_pairs};
      for (std::int64_t t = 0; t < n; ++t) {
        const Tap& at = layout_.taps[tap + t];
        const std::int64_t length = layout_.copies[at.copy].pairs * inputs;
        rows.x_row[t] = geometry.stride * length;
        rows.x_image[t] = layout_.height * length;
        rows.x[t] = words(copies_[at.copy]) +
                    (input_block * images_ * layout_.height + first * geometry.stride + up) * length +
                    at.first_pair * inputs;
      }
      passes[n - 1](dy, rows, sums + tap * inputs * outputs);
    }
  }

 private:
  static std::uint32_t* words(Tensor& t) {
    return reinterpret_cast<std::uint32_t*>(t.mutable_data<std::int32_t>());
  }
  static const std::uint32_t* words(const Tensor& t) {
    return reinterpret_cast<const std::uint32_t*>(t.data<std::int32_t>());
  }

  const Layout& layout_;
  std::int64_t dy_row_;
  std::int64_t images_ = 0;
  Tensor dy_;                   ///< O/16, N, H, pairs, 16
  std::vector<Tensor> copies_;  ///< I/8, N, H, pairs, 8
};

}  // namespace

bool PairedGradient::suits(const Shape& weights, const ConvGeometry& geometry, DType x, DType dy) {
  return geometry.dilation == 1 && geometry.groups == 1 && has_native_bf16() && !has_amx() &&
         dy == DType::bf16 && (x == DType::u8 || x == DType::s8 || x == DType::bf16) && weights[0] > 0 &&
         weights[0] <= max_outputs && weights[0] % outputs == 0 && weights[1] > 0 &&
         weights[1] % (2 * inputs) == 0 && weights[3] > 1;
}

PairedGradient::PairedGradient(const Shape& weights, const ConvGeometry& geometry)
    : weights_(weights), geometry_(geometry), sums_(Tensor::zeros({weights.numel()})) {}

void PairedGradient::add(const Tensor& x, const Tensor& dy) {
  const Booked booked(Work::convolution);
  // A group has so few images that most of a second-level cache of 1 MB is left for the data before and after
  // this step. But it must not be too small, because the sums are read and written once per group.
  constexpr std::int64_t cache_bytes = 1 << 17;
  const Layout layout = layout_of(x.shape(), dy.shape(), weights_[3], geometry_);
  const std::int64_t in_channels = weights_[1], out_channels = weights_[0], images = x.dim(0);
  const std::int64_t longest =
      std::max<std::int64_t>(1, std::max(cache_bytes, static_cast<std::int64_t>(sums_.bytes())) /
                                    Group::bytes_per_image(layout, in_channels, out_channels));
  const std::int64_t groups = divided_up(images, longest);
  if (groups == 0) return;
  Group group(layout, divided_up(images, groups), in_channels, out_channels);
  for (std::int64_t g = 0; g < groups; ++g) {
    const std::int64_t begin = images * g / groups, end = images * (g + 1) / groups;
    const Tensor some_x = x.rows(begin, end), some_dy = dy.rows(begin, end);
    group.set_images(end - begin);
    group.fill_gradient(static_cast<const std::uint16_t*>(some_dy.raw()), out_channels);
    if (x.dtype() == DType::u8) {
      group.fill_input(some_x.data<std::uint8_t>(), in_channels, geometry_.stride);
    } else if (x.dtype() == DType::s8) {
      group.fill_input(some_x.data<std::int8_t>(), in_channels, geometry_.stride);
    } else {
      group.fill_input(static_cast<const std::uint16_t*>(some_x.raw()), in_channels, geometry_.stride);
    }
    const std::int64_t input_blocks = in_channels / inputs, rows = weights_[2];
    float* sums = sums_.mutable_data<float>();
    parallel_for(out_channels / outputs * rows * input_blocks, 1, [&](std::int64_t from, std::int64_t to) {
      for (std::int64_t i = from; i < to; ++i)
        group.add_products(i / input_blocks / rows, i / input_blocks % rows, i % input_blocks, geometry_,
                           sums + i * weights_[3] * inputs * outputs);
    });
  }
}

void PairedGradient::add(const PairedGradient& part) { add_in_place(sums_, part.sums_); }

Tensor PairedGradient::sum() const {
  Tensor dw = Tensor::empty(weights_);
  const std::int64_t in_channels = weights_[1], height = weights_[2], width = weights_[3];
  const float* from = sums_.data<float>();
  float* to = dw.mutable_data<float>();
  parallel_for(weights_[0] / outputs, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t block = begin; block < end; ++block) {
      for (std::int64_t i = 0; i < in_channels; ++i) {
        for (std::int64_t y = 0; y < height; ++y) {
          const float* taps =
              from + ((block * height + y) * (in_channels / inputs) + i / inputs) * width * inputs * outputs;
          for (std::int64_t o = 0; o < outputs; ++o) {
            float* row = to + (((block * outputs + o) * in_channels + i) * height + y) * width;
            for (std::int64_t x = 0; x < width; ++x) row[x] = taps[(x * inputs + i % inputs) * outputs + o];
          }
        }
      }
    }
  });
  return dw;
}

}  // namespace faq::kernels
