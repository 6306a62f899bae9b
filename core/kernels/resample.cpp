#include "core/kernels/resample.h"

#include <algorithm>
#include <cstring>

#include "core/kernels/element.h"
#include "core/kernels/simd.h"

namespace faq::kernels {
namespace {

constexpr std::int32_t half = 1 << (ResampleFilter::precision - 1);

[[gnu::always_inline]] inline std::uint8_t to_pixel(std::int32_t sum) {
  return static_cast<std::uint8_t>(clamped(sum >> ResampleFilter::precision, 0, 255));
}

struct Taps {
  const int* first;
  const int* count;
  const std::int32_t* weights;
  std::size_t stride;
};

// Three channels as four lanes; what the fourth sums up is thrown away. Reads a byte beyond the last tap.
FAQ_SIMD void row_of_three(const std::uint8_t* in, Taps taps, int begin, int end, std::uint8_t* out) {
  for (int x = begin; x < end; ++x) {
    const std::uint8_t* pixels = in + static_cast<std::ptrdiff_t>(taps.first[x]) * 3;
    const std::int32_t* weights = taps.weights + static_cast<std::size_t>(x) * taps.stride;
    std::int32_t sum[4] = {half, half, half, half};
    for (int k = 0; k < taps.count[x]; ++k) {
      for (int lane = 0; lane < 4; ++lane) sum[lane] += pixels[k * 3 + lane] * weights[k];
    }
    for (int c = 0; c < 3; ++c) out[x * 3 + c] = to_pixel(sum[c]);
  }
}

template <int channels>
void row_of(const std::uint8_t* in, Taps taps, int begin, int end, std::uint8_t* out) {
  for (int x = begin; x < end; ++x) {
    const std::uint8_t* pixels = in + static_cast<std::ptrdiff_t>(taps.first[x]) * channels;
    const std::int32_t* weights = taps.weights + static_cast<std::size_t>(x) * taps.stride;
    for (int c = 0; c < channels; ++c) {
      std::int32_t sum = half;
      for (int k = 0; k < taps.count[x]; ++k) sum += pixels[k * channels + c] * weights[k];
      out[x * channels + c] = to_pixel(sum);
    }
  }
}

constexpr std::size_t columns = 256;  // sums that stay in registers and the first-level cache

FAQ_SIMD void sum_rows(const std::uint8_t* in, std::size_t row_bytes, const std::int32_t* weights, int count,
                       std::size_t n, std::uint8_t* out) {
  std::int32_t sums[columns];
  for (std::size_t i = 0; i < n; ++i) sums[i] = half;
  for (int k = 0; k < count; ++k) {
    const std::uint8_t* row = in + static_cast<std::size_t>(k) * row_bytes;
    const std::int32_t weight = weights[k];
    for (std::size_t i = 0; i < n; ++i) sums[i] += row[i] * weight;
  }
  for (std::size_t i = 0; i < n; ++i) out[i] = to_pixel(sums[i]);
}

}  // namespace

void resample_row(const std::uint8_t* in, int channels, const ResampleFilter& filter, std::uint8_t* out) {
  const Taps taps{filter.first.data(), filter.count.data(), filter.weights.data(), filter.stride};
  if (channels == 1) return row_of<1>(in, taps, 0, filter.size(), out);
  // The byte beyond is there for all but the outputs that use the last pixel.
  int safe = filter.size();
  while (safe > 0 && filter.first[safe - 1] + filter.count[safe - 1] == filter.end()) --safe;
  row_of_three(in, taps, 0, safe, out);
  row_of<3>(in, taps, safe, filter.size(), out);
}

void resample_column(const std::uint8_t* in, std::size_t n, const ResampleFilter& filter, int i,
                     std::uint8_t* out) {
  const std::uint8_t* rows = in + static_cast<std::size_t>(filter.first[i] - filter.begin()) * n;
  for (std::size_t begin = 0; begin < n; begin += columns) {
    sum_rows(rows + begin, n, filter.weights_of(i), filter.count[i], std::min(columns, n - begin),
             out + begin);
  }
}

}  // namespace faq::kernels
