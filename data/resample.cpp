#include "data/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/kernels/resample.h"
#include "data/decode.h"

// The algorithm of Pillow, src/libImaging/Resample.c, for 8 bits per channel: separable, horizontal pass
// first, the intermediate result rounded to 8 bits, weights normalised in double and rounded to 22 fractional
// bits.

namespace faq {
namespace {

using Filter = kernels::ResampleFilter;

// The filters, as Pillow computes them, of the distance in samples.
double triangle(double x) { return std::abs(x) < 1.0 ? 1.0 - std::abs(x) : 0.0; }

double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

/// The filter for outputs [begin, begin + count) of `size`, from `input` samples.
Filter filter_of(Interpolation interpolation, int input, int size, int begin, int count) {
  const bool is_cubic = interpolation == Interpolation::bicubic;
  const double scale = static_cast<double>(input) / size;
  const double stretched = std::max(scale, 1.0);
  const double support = (is_cubic ? 2.0 : 1.0) * stretched;
  Filter filter;
  filter.stride = static_cast<std::size_t>(std::ceil(support)) * 2 + 1;
  filter.first.resize(static_cast<std::size_t>(count));
  filter.count.resize(static_cast<std::size_t>(count));
  filter.weights.resize(static_cast<std::size_t>(count) * filter.stride);
  std::vector<double> weights(filter.stride);
  for (int i = 0; i < count; ++i) {
    const double center = (begin + i + 0.5) * scale;
    const int first = std::max(static_cast<int>(center - support + 0.5), 0);
    const int taps = std::min(static_cast<int>(center + support + 0.5), input) - first;
    double sum = 0;
    for (int k = 0; k < taps; ++k) {
      // Pillow multiplies by the reciprocal. A division would differ in the last bit.
      const double distance = (k + first - center + 0.5) * (1.0 / stretched);
      weights[static_cast<std::size_t>(k)] = is_cubic ? cubic(distance) : triangle(distance);
      sum += weights[static_cast<std::size_t>(k)];
    }
    const auto row = static_cast<std::size_t>(i);
    filter.first[row] = first;
    filter.count[row] = taps;
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps); ++k) {
      const double weight = sum != 0 ? weights[k] / sum : weights[k];
      filter.weights[row * filter.stride + k] =
          static_cast<std::int32_t>((weight < 0 ? -0.5 : 0.5) + weight * (1 << Filter::precision));
    }
  }
  return filter;
}

}  // namespace

Image resample(const Image& image, const Box& source, int height, int width, const Box& window,
               Interpolation interpolation) {
  const auto inside = [](int begin, int length, int whole) {
    return begin >= 0 && length > 0 && length <= whole - begin;
  };
  check(image.channels == 1 || image.channels == 3, "resize: expected 1 or 3 channels, got ", image.channels);
  check(inside(source.top, source.height, image.height) && inside(source.left, source.width, image.width),
        "resize: ", source.height, " x ", source.width, " at ", source.top, ", ", source.left,
        " is not a part of ", image.height, " x ", image.width);
  check(inside(window.top, window.height, height) && inside(window.left, window.width, width),
        "resize: ", window.height, " x ", window.width, " at ", window.top, ", ", window.left,
        " is not a part of ", height, " x ", width);
  check(std::int64_t{window.height} * window.width <= max_pixels, ErrorKind::bad_data,
        "resize: ", window.height, " x ", window.width, " is more than ", max_pixels, " pixels");

  const auto channels = static_cast<std::size_t>(image.channels);
  const Filter across = filter_of(interpolation, source.width, width, window.left, window.width);
  const Filter down = filter_of(interpolation, source.height, height, window.top, window.height);
  const auto in_row = [&](int y, int x) {
    return image.pixels.data() +
           (static_cast<std::size_t>(source.top + y) * static_cast<std::size_t>(image.width) +
            static_cast<std::size_t>(source.left + x)) *
               channels;
  };
  const std::size_t row_bytes = static_cast<std::size_t>(window.width) * channels;

  // Pillow leaves out a pass that does not resize. Such a pass would have weights of exactly one and change
  // nothing.
  const int first_row = down.begin(), rows = down.end() - first_row;
  std::vector<std::uint8_t> narrowed(static_cast<std::size_t>(rows) * row_bytes);
  for (int y = 0; y < rows; ++y) {
    std::uint8_t* out = narrowed.data() + static_cast<std::size_t>(y) * row_bytes;
    if (width == source.width)
      std::memcpy(out, in_row(first_row + y, window.left), row_bytes);
    else
      kernels::resample_row(in_row(first_row + y, 0), image.channels, across, out);
  }

  Image out{window.height, window.width, image.channels, {}};
  if (height == source.height) {
    out.pixels = std::move(narrowed);
    return out;
  }
  out.pixels.resize(static_cast<std::size_t>(window.height) * row_bytes);
  for (int y = 0; y < window.height; ++y) {
    kernels::resample_column(narrowed.data(), row_bytes, down, y,
                             out.pixels.data() + static_cast<std::size_t>(y) * row_bytes);
  }
  return out;
}

}  // namespace faq
