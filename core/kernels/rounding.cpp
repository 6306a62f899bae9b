#include "core/kernels/rounding.h"

#include <algorithm>
#include <compare>
#include <cstring>
#include <map>
#include <utility>
#include <vector>

#include "core/division.h"
#include "core/kernels/conv_primitives.h"
#include "core/kernels/exact_addends.h"
#include "core/rng.h"

namespace faq::kernels {
namespace {

// The sum of the weights, per output channel, over the taps of a window that lie inside the image: of all of
// them, and of the positive ones, which come first.
struct WindowSums {
  std::vector<std::int64_t> all, positive;
};

// The taps [first, last) of a window that lie inside the image, in one dimension.
struct Taps {
  std::int64_t first, last;
  auto operator<=>(const Taps&) const = default;
};
Taps taps_inside(std::int64_t at, std::int64_t size, std::int64_t kernel, int stride, int padding,
                 int dilation) {
  const std::int64_t begin = at * stride - padding;
  // Tap k lies at begin + k·dilation.
  const auto first_from = [&](std::int64_t position) {
    return position <= begin ? 0 : divided_up(position - begin, dilation);
  };
  return {std::min(kernel, first_from(0)), std::min(kernel, first_from(size))};
}

WindowSums sums_over(const Tensor& weights, const Taps& rows, const Taps& columns) {
  const std::int64_t outputs = weights.dim(0), inputs = weights.dim(1), width = weights.dim(3);
  const std::int8_t* filter = weights.data<std::int8_t>();
  WindowSums sums{std::vector<std::int64_t>(outputs), std::vector<std::int64_t>(outputs)};
  for (std::int64_t o = 0; o < outputs; ++o) {
    for (std::int64_t i = 0; i < inputs; ++i, filter += weights.dim(2) * width) {
      for (std::int64_t row = rows.first; row < rows.last; ++row) {
        for (std::int64_t column = columns.first; column < columns.last; ++column) {
          const std::int64_t w = filter[row * width + column];
          sums.all[o] += w;
          sums.positive[o] += std::max<std::int64_t>(w, 0);
        }
      }
    }
  }
  return sums;
}

// True if a kernel computes the right sums of the probe, although f32 would have to round partial sums. False
// also if no partial sum is large enough for the test to tell. The images are constant, so a result follows
// from the taps inside the image.
bool finds_sums_of_probe(const onednn::ConvProblem& problem) {
  constexpr int byte = 255,
                shift = 128;  // what is multiplied; signed images are shifted, a border of theirs, too
  const bool is_signed = problem.source == DType::s8;
  const int input = is_signed ? byte - shift : byte;
  const Shape &xs = problem.x, &ws = problem.weights;
  const ConvGeometry& geometry = problem.geometry;
  Tensor images = Tensor::empty(xs, problem.source);
  std::memset(images.mutable_raw(), input, images.bytes());
  Tensor no_bias;
  if (problem.bias) {
    no_bias = Tensor::empty({ws[0]}, DType::s32);
    std::memset(no_bias.mutable_raw(), 0, no_bias.bytes());
  }
  const Tensor probe = rounding_probe(ws);
  Tensor found = Tensor::empty(problem.y, DType::s32);
  WeightForms forms(probe, {}, false);
  onednn::convolve(images, forms, no_bias, geometry, found);
  const WindowSums of_filters = sums_over(probe, {0, ws[2]}, {0, ws[3]});
  std::map<std::pair<Taps, Taps>, WindowSums> of_window;
  bool beyond = false;
  const std::int32_t* y = found.data<std::int32_t>();
  for (std::int64_t image = 0; image < found.dim(0); ++image) {
    for (std::int64_t row = 0; row < found.dim(1); ++row) {
      for (std::int64_t column = 0; column < found.dim(2); ++column) {
        const std::pair window{
            taps_inside(row, xs[1], ws[2], geometry.stride, geometry.padding.top, geometry.dilation.height),
            taps_inside(column, xs[2], ws[3], geometry.stride, geometry.padding.left,
                        geometry.dilation.width)};
        auto known = of_window.find(window);
        if (known == of_window.end())
          known = of_window.emplace(window, sums_over(probe, window.first, window.second)).first;
        const WindowSums& sums = known->second;
        for (std::int64_t o = 0; o < ws[0]; ++o) {
          const std::int64_t sum = byte * sums.all[o];
          const std::int64_t of_border = is_signed ? shift * (of_filters.all[o] - sums.all[o]) : 0;
          const bool is_f32 = std::abs(sum) < f32_integers && std::abs(sum + of_border) < f32_integers;
          if (is_f32 && *y != input * sums.all[o]) return false;
          beyond |= is_f32 && byte * sums.positive[o] >= f32_integers;
          ++y;
        }
      }
    }
  }
  return beyond;
}

}  // namespace

Tensor rounding_probe(const Shape& weights) {
  constexpr std::int64_t input = 255, large = 127, small = 126;
  const std::int64_t length = weights[1] * weights[2] * weights[3];
  // The largest number p of positive weights for which input·(p·large − (length − p)·small) stays below the
  // limit.
  const std::int64_t positive =
      std::min(length, ((f32_integers - 1) / input + small * length) / (large + small));
  Tensor probe = Tensor::empty(weights, DType::s8);
  const auto values = probe.mutable_span<std::int8_t>();
  Random random(0, RandomStream::synthetic);
  std::uint32_t bits = 0;
  for (std::int64_t i = 0; i < probe.numel(); ++i) {
    bits = i % 32 == 0 ? random.next_u32() : bits >> 1;
    const auto magnitude = static_cast<std::int8_t>(small + (bits & 1));
    values[i] = i % length < positive ? magnitude : static_cast<std::int8_t>(-magnitude);
  }
  return probe;
}

bool rounds_results_alone(const Shape& x, DType images, const Shape& weights, bool with_bias,
                          const ConvGeometry& geometry) {
  onednn::ConvProblem problem = onednn::problem_of(x, weights, geometry, images, DType::s8, DType::s32);
  if (with_bias) problem.bias = DType::s32;
  return *onednn::Context::instance().rounds_results_alone().get(
      problem, [&] { return finds_sums_of_probe(problem); });
}

}  // namespace faq::kernels
