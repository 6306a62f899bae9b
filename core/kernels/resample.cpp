#include "core/kernels/resample.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

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

#if defined(__x86_64__)
// Processes three channels as four lanes. Reads one byte beyond the last tap. Writes one byte beyond the last
// output; that byte belongs to the next pixel and is written after it.
__attribute__((target("sse4.1"))) void row_of_three(const std::uint8_t* in, Taps taps, int end,
                                                    std::uint8_t* out) {
  for (int x = 0; x < end; ++x) {
    const std::uint8_t* pixels = in + static_cast<std::ptrdiff_t>(taps.first[x]) * 3;
    const std::int32_t* weights = taps.weights + static_cast<std::size_t>(x) * taps.stride;
    __m128i sum = _mm_set1_epi32(half);
    for (int k = 0; k < taps.count[x]; ++k) {
      std::int32_t bytes;
      std::memcpy(&bytes, pixels + k * 3, 4);
      const __m128i pixel = _mm_cvtepu8_epi32(_mm_cvtsi32_si128(bytes));
      sum = _mm_add_epi32(sum, _mm_mullo_epi32(pixel, _mm_set1_epi32(weights[k])));
    }
    sum = _mm_srai_epi32(sum, ResampleFilter::precision);
    const __m128i clamped_bytes = _mm_packus_epi16(_mm_packus_epi32(sum, sum), sum);
    const std::int32_t bytes = _mm_cvtsi128_si32(clamped_bytes);
    std::memcpy(out + x * 3, &bytes, 4);
  }
}
#endif

constexpr std::size_t columns = 256;  // sums that stay in registers and in the first-level cache

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
  int done = 0;
#if defined(__x86_64__)
  static const bool vectors = __builtin_cpu_supports("sse4.1");
  if (vectors) {
    // The extra bytes exist for all outputs but the last one and those that use the last pixel.
    done = filter.size() - 1;
    while (done > 0 && filter.first[done - 1] + filter.count[done - 1] == filter.end()) --done;
    row_of_three(in, taps, done, out);
  }
#endif
  row_of<3>(in, taps, done, filter.size(), out);
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
