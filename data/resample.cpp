#include "data/resample.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "data/decode.h"

// Pillow, src/libImaging/Resample.c, 8 bits per channel: separable, horizontal pass first, the intermediate
// rounded to 8 bits, weights normalised in double and rounded to 22 fractional bits.

namespace faq {
namespace {

constexpr int precision_bits = 32 - 8 - 2;
constexpr std::int32_t half = 1 << (precision_bits - 1);

/// Output i is the sum of weights[i * stride + k] * input[first[i] + k] over k < count[i].
struct Filter {
  std::vector<int> first;
  std::vector<int> count;
  std::vector<std::int32_t> weights;
  std::size_t stride = 0;

  const std::int32_t* weights_of(int i) const {
    return weights.data() + static_cast<std::size_t>(i) * stride;
  }
  int begin() const { return first.front(); }
  int end() const { return first.back() + count.back(); }
};

/// The triangle filter for outputs [begin, begin + count) of `size`, from `input` samples.
Filter triangle_filter(int input, int size, int begin, int count) {
  const double scale = static_cast<double>(input) / size;
  const double support = std::max(scale, 1.0);
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
      // Pillow multiplies by the reciprocal; dividing would differ in the last bit.
      const double distance = std::abs((k + first - center + 0.5) * (1.0 / support));
      weights[static_cast<std::size_t>(k)] = distance < 1.0 ? 1.0 - distance : 0.0;
      sum += weights[static_cast<std::size_t>(k)];
    }
    const auto row = static_cast<std::size_t>(i);
    filter.first[row] = first;
    filter.count[row] = taps;
    for (std::size_t k = 0; k < static_cast<std::size_t>(taps); ++k) {
      const double weight = sum != 0 ? weights[k] / sum : weights[k];
      filter.weights[row * filter.stride + k] =
          static_cast<std::int32_t>(0.5 + weight * (1 << precision_bits));
    }
  }
  return filter;
}

std::uint8_t to_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> precision_bits, 0, 255));
}

template <int channels>
void filter_row(const std::uint8_t* in, const Filter& filter, std::uint8_t* out) {
  const int width = static_cast<int>(filter.first.size());
  for (int x = 0; x < width; ++x) {
    const std::uint8_t* taps =
        in + static_cast<std::ptrdiff_t>(filter.first[static_cast<std::size_t>(x)]) * channels;
    const std::int32_t* weights = filter.weights_of(x);
    const int count = filter.count[static_cast<std::size_t>(x)];
    std::int32_t sum[channels];
    for (int c = 0; c < channels; ++c) sum[c] = half;
    for (int k = 0; k < count; ++k)
      for (int c = 0; c < channels; ++c) sum[c] += taps[k * channels + c] * weights[k];
    for (int c = 0; c < channels; ++c) *out++ = to_pixel(sum[c]);
  }
}

}  // namespace

Image resample(const Image& image, const Box& source, int height, int width, const Box& window) {
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
  const Filter across = triangle_filter(source.width, width, window.left, window.width);
  const Filter down = triangle_filter(source.height, height, window.top, window.height);
  const auto in_row = [&](int y, int x) {
    return image.pixels.data() +
           (static_cast<std::size_t>(source.top + y) * static_cast<std::size_t>(image.width) +
            static_cast<std::size_t>(source.left + x)) *
               channels;
  };
  const std::size_t row_bytes = static_cast<std::size_t>(window.width) * channels;

  // Pillow leaves out a pass that changes nothing; with weights of exactly one it would change nothing
  // either.
  const int first_row = down.begin(), rows = down.end() - first_row;
  std::vector<std::uint8_t> narrowed(static_cast<std::size_t>(rows) * row_bytes);
  for (int y = 0; y < rows; ++y) {
    std::uint8_t* out = narrowed.data() + static_cast<std::size_t>(y) * row_bytes;
    if (width == source.width)
      std::memcpy(out, in_row(first_row + y, window.left), row_bytes);
    else if (channels == 3)
      filter_row<3>(in_row(first_row + y, 0), across, out);
    else
      filter_row<1>(in_row(first_row + y, 0), across, out);
  }

  Image out{window.height, window.width, image.channels, {}};
  if (height == source.height) {
    out.pixels = std::move(narrowed);
    return out;
  }
  out.pixels.resize(static_cast<std::size_t>(window.height) * row_bytes);
  std::vector<std::int32_t> sums(row_bytes);
  for (int y = 0; y < window.height; ++y) {
    const auto row = static_cast<std::size_t>(y);
    std::ranges::fill(sums, half);
    for (int k = 0; k < down.count[row]; ++k) {
      const std::int32_t weight = down.weights_of(y)[k];
      const std::uint8_t* in =
          narrowed.data() + static_cast<std::size_t>(down.first[row] + k - first_row) * row_bytes;
      for (std::size_t i = 0; i < row_bytes; ++i) sums[i] += in[i] * weight;
    }
    for (std::size_t i = 0; i < row_bytes; ++i) out.pixels[row * row_bytes + i] = to_pixel(sums[i]);
  }
  return out;
}

}  // namespace faq
