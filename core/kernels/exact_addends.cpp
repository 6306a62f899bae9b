#include "core/kernels/exact_addends.h"

#include <algorithm>

#include "core/division.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

// For the weights of an output channel: the sums and the counts of the positive and of the negative weights.
struct Magnitudes {
  int largest = 0;
  std::int32_t positive = 0, negative = 0;
  std::int32_t positives = 0, negatives = 0;
};
FAQ_SIMD Magnitudes magnitudes(const std::int8_t* w, std::int64_t n) {
  std::int32_t largest = 0, sum = 0, total = 0, positives = 0, nonzero = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t weight = w[i];
    const std::int32_t magnitude = weight < 0 ? -weight : weight;
    largest = magnitude > largest ? magnitude : largest;
    sum += weight;
    total += magnitude;
    positives += weight > 0 ? 1 : 0;
    nonzero += weight != 0 ? 1 : 0;
  }
  return {largest, (total + sum) / 2, (total - sum) / 2, positives, nonzero - positives};
}

// A bound of the sums over a channel after division into `parts`. Rounding adds less than one to each weight,
// and none is larger than the largest divided.
std::int64_t bound_of_part(const Magnitudes& m, std::int64_t parts) {
  const std::int64_t largest = divided_up(m.largest, parts);
  const auto of_sign = [&](std::int64_t sum, std::int64_t count) {
    return std::min((sum + count * (parts - 1)) / parts, count * largest);
  };
  return std::max(of_sign(m.positive, m.positives), of_sign(m.negative, m.negatives));
}

// out = (|w| + offset) / parts, rounded down, with the sign of w.
FAQ_SIMD void divide_weights(const std::int8_t* w, int offset, int parts, std::int8_t* out, std::int64_t n) {
  const float divisor = static_cast<float>(parts);
  for (std::int64_t i = 0; i < n; ++i) {
    const int magnitude = w[i] < 0 ? -w[i] : w[i];
    // Exact: both are small integers, and a quotient that is not an integer does not round to one.
    const int part = static_cast<int>(static_cast<float>(magnitude + offset) / divisor);
    out[i] = static_cast<std::int8_t>(w[i] < 0 ? -part : part);
  }
}

// Adds n weights, which are those of one tap after the other, to the sums of the taps.
FAQ_SIMD void add_taps(const std::int8_t* w, std::int64_t n, std::int64_t taps,
                       std::int32_t* __restrict sums) {
  if (taps == 1) {
    std::int32_t sum = 0;
    for (std::int64_t i = 0; i < n; ++i) sum += w[i];
    sums[0] += sum;
    return;
  }
  for (std::int64_t i = 0; i < n; i += taps) {
    for (std::int64_t tap = 0; tap < taps; ++tap) sums[tap] += w[i + tap];
  }
}

// The largest magnitude of a sum over neighbours.
std::int64_t largest_run_sum(const std::vector<std::int64_t>& values) {
  std::int64_t largest = 0, highest = 0, lowest = 0;  // highest, lowest: of the runs that end here
  for (const std::int64_t value : values) {
    highest = std::max<std::int64_t>(highest, 0) + value;
    lowest = std::min<std::int64_t>(lowest, 0) + value;
    largest = std::max({largest, highest, -lowest});
  }
  return largest;
}

}  // namespace

std::int64_t largest_window_sum(const Tensor& weights) {
  const std::int64_t filters = weights.dim(0), height = weights.dim(2), width = weights.dim(3);
  const std::int64_t length = weights.numel() / std::max<std::int64_t>(filters, 1);
  const std::int8_t* w = weights.data<std::int8_t>();
  std::vector<std::int64_t> of_filter(filters);
  parallel_for(filters, 16, [&](std::int64_t begin, std::int64_t end) {
    std::vector<std::int32_t> taps(height * width);
    std::vector<std::int64_t> rows(width);
    for (std::int64_t o = begin; o < end; ++o) {
      std::ranges::fill(taps, 0);
      add_taps(w + o * length, length, height * width, taps.data());
      for (std::int64_t top = 0; top < height; ++top) {
        std::ranges::fill(rows, 0);  // of each column, from `top` on
        for (std::int64_t row = top; row < height; ++row) {
          for (std::int64_t column = 0; column < width; ++column) rows[column] += taps[row * width + column];
          of_filter[o] = std::max(of_filter[o], largest_run_sum(rows));
        }
      }
    }
  });
  return filters == 0 ? 0 : std::ranges::max(of_filter);
}

bool are_exact(const Shape& weights, const FixedPoint& format, int max_input, int max_magnitude) {
  const std::int64_t length = weights.numel() / std::max<std::int64_t>(weights[0], 1);
  return format.max() <= max_magnitude && length * format.max() * max_input < f32_integers;
}

// The magnitudes of a weight's parts differ by at most one, and the first part is the largest.
int exact_parts(const Tensor& weights, int max_input, int max_magnitude) {
  constexpr std::int64_t max_filter = std::int64_t{1} << 23;  // the sums of a filter fit into 32 bits
  const std::int8_t* w = weights.data<std::int8_t>();
  const std::int64_t channels = weights.dim(0);
  const std::int64_t length = weights.numel() / std::max<std::int64_t>(channels, 1);
  if (weights.is_fixed_point() && are_exact(weights.shape(), weights.fixed_point(), max_input, max_magnitude))
    return 1;
  check(length <= max_filter, ErrorKind::internal, "integer convolution: filters of ", weights.shape());
  std::vector<Magnitudes> of_channel(channels);
  parallel_for(channels, 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t o = begin; o < end; ++o) of_channel[o] = magnitudes(w + o * length, length);
  });
  for (int parts = 1; parts <= 128; ++parts) {
    if (std::ranges::all_of(of_channel, [&](const Magnitudes& m) {
          return divided_up(m.largest, parts) <= max_magnitude &&
                 bound_of_part(m, parts) * max_input < f32_integers;
        }))
      return parts;
  }
  fail(ErrorKind::internal, "integer convolution: weights ", weights.shape(),
       " are too many for exact 32-bit sums");
}

std::vector<Tensor> divided(const Tensor& weights, int parts) {
  const std::int8_t* w = weights.data<std::int8_t>();
  std::vector<Tensor> addends;
  for (int part = 0; part < parts; ++part) {
    Tensor addend = Tensor::empty(weights.shape(), DType::s8);
    std::int8_t* out = addend.mutable_data<std::int8_t>();
    parallel_for(weights.numel(), 1 << 14, [&](std::int64_t begin, std::int64_t end) {
      divide_weights(w + begin, parts - 1 - part, parts, out + begin, end - begin);
    });
    addends.push_back(std::move(addend));
  }
  return addends;
}

std::vector<Tensor> exact_addends(const Tensor& weights, int max_input, int max_magnitude) {
  const int parts = exact_parts(weights, max_input, max_magnitude);
  return parts == 1 ? std::vector{weights} : divided(weights, parts);
}

}  // namespace faq::kernels
