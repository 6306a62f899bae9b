#include "quant/deploy/integer_requantize.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>

#include "core/kernels/elementwise.h"
#include "core/kernels/exact_rounding.h"

namespace faq {
namespace {

constexpr int most_shift = 53;  // 512·2^53 still fits
constexpr int least_shift = 3;  // so that ties lie between multiples of the last bit but one
constexpr double most_sum = 0x1p62;
constexpr double most_multiplier = 0x1p31;

// The bits behind the binary point of a number.
int fraction_bits(double value) {
  if (value == 0) return 0;
  int exponent = 0;
  auto mantissa = static_cast<std::int64_t>(std::ldexp(std::frexp(value, &exponent), 53));
  exponent -= 53;
  for (; mantissa % 2 == 0; mantissa /= 2) ++exponent;
  return std::max(0, -exponent);
}

// value·2^shift: exact, or the odd one of its two neighbours. Beside addends that are multiples of two, that
// is on the same side of every tie as the exact number.
std::int64_t scaled_to_odd(double value, int shift) {
  const double scaled = std::ldexp(value, shift);
  const double below = std::floor(scaled);
  const auto integer = static_cast<std::int64_t>(below);
  return below == scaled ? integer : integer | 1;
}

struct Channel {
  double multiplier, bias;
};

struct Residual {
  double factor;
  int largest;  // of its integers
  double reach() const { return std::abs(factor) * largest; }
};

struct Scaled {
  std::int32_t multiplier;
  std::int64_t bias;
  int shift;
};

std::optional<Scaled> scaled(const Channel& channel, const Residual& residual, double largest_sum) {
  int shift = std::max({least_shift, fraction_bits(channel.multiplier), fraction_bits(residual.factor)});
  if (fraction_bits(channel.bias) > shift) ++shift;  // its neighbour has to be odd
  if (shift > most_shift) return {};
  const double multiplier = std::ldexp(channel.multiplier, shift);
  const double largest =
      largest_sum * std::abs(multiplier) + std::ldexp(std::abs(channel.bias) + residual.reach(), shift);
  if (std::abs(multiplier) >= most_multiplier || largest >= most_sum) return {};
  return Scaled{static_cast<std::int32_t>(multiplier), scaled_to_odd(channel.bias, shift), shift};
}

// True if sums do not matter: whatever they are, each residual gives one integer.
bool is_constant(const Channel& channel, const Residual& residual, double largest_sum, const Levels& levels) {
  const double reach = largest_sum * std::abs(channel.multiplier);
  for (int r = -residual.largest; r <= residual.largest; ++r) {
    const double z = channel.bias + r * residual.factor;
    const double margin = reach + 1e-9 * (1 + std::abs(z));
    if (z - margin >= levels.high || z + margin <= levels.low) continue;
    if (std::abs(z - std::floor(z) - 0.5) <= margin) return false;
  }
  return true;
}

// A channel that makes two neighbouring integers, the larger one of all sums beyond a threshold: as a
// multiplier of one last bit, which 2^32 sums do not carry from one tie to the next.
std::optional<Scaled> one_step(const Channel& channel, const Residual& residual, std::int64_t largest_sum,
                               const Levels& levels) {
  constexpr int shift = 40;
  if (residual.largest > 0) return {};
  const std::int64_t sign = channel.multiplier < 0 ? -1 : 1;
  const auto value = [&](std::int64_t sum) {
    return static_cast<int>(kernels::rounded_exactly(
        {static_cast<std::int32_t>(sign * sum), static_cast<float>(channel.multiplier),
         static_cast<float>(channel.bias), 0, 0},
        levels.low, levels.high));
  };
  std::int64_t below = -largest_sum, reached = largest_sum;
  const int low = value(below);
  if (value(reached) != low + 1) return {};
  while (reached - below > 1) {
    const std::int64_t middle = below + (reached - below) / 2;
    (value(middle) > low ? reached : below) = middle;
  }
  const std::int64_t tie = (2 * std::int64_t{low} + 1) * (std::int64_t{1} << (shift - 1));
  return Scaled{static_cast<std::int32_t>(sign), tie + 1 - reached, shift};
}

// The same result with a bias that is just far enough outside.
double clipped_bias(double bias, const Residual& residual, const Levels& levels) {
  const double outside = 2 + residual.reach();
  return std::clamp(bias, std::floor(levels.low - outside), std::ceil(levels.high + outside));
}

std::vector<int> integers_of(const Tensor& t) {
  if (t.dtype() == DType::u8) return {t.span<std::uint8_t>().begin(), t.span<std::uint8_t>().end()};
  return {t.span<std::int8_t>().begin(), t.span<std::int8_t>().end()};
}

}  // namespace

IntegerRequantize integer_requantize(const kernels::Requantize& params,
                                     std::span<const std::int64_t> largest_sum, int largest_residual,
                                     const std::string& op) {
  const Levels levels = levels_of(params.activation, params.format);
  IntegerRequantize result;
  result.low = static_cast<int>(levels.low);
  result.high = static_cast<int>(levels.high);
  const Residual residual{params.residual_multiplier, largest_residual};
  result.residual_shift = static_cast<std::uint8_t>(fraction_bits(residual.factor));
  const double factor = std::ldexp(residual.factor, result.residual_shift);
  check(result.residual_shift <= most_shift && std::abs(factor) < most_multiplier, ErrorKind::usage, op,
        ": residuals times ", residual.factor, " do not fit 62 bits");
  result.residual = static_cast<std::int32_t>(factor);
  for (std::size_t c = 0; c < largest_sum.size(); ++c) {
    const auto at = static_cast<std::int64_t>(c);
    const Channel channel{params.multiplier.data<float>()[at], params.bias.data<float>()[at]};
    const auto largest = static_cast<double>(largest_sum[c]);
    std::optional<Scaled> found = scaled(channel, residual, largest);
    if (!found && is_constant(channel, residual, largest, levels))
      found = scaled({0, clipped_bias(channel.bias, residual, levels)}, residual, 0);
    if (!found) found = one_step(channel, residual, largest_sum[c], levels);
    check(found.has_value(), ErrorKind::usage, op, ": channel ", c, ": sums up to ", largest_sum[c],
          " times ", channel.multiplier, " plus ", channel.bias, " do not fit 62 bits");
    result.multiplier.push_back(found->multiplier);
    result.bias.push_back(found->bias);
    result.shift.push_back(static_cast<std::uint8_t>(found->shift));
  }
  return result;
}

// The function rises with the sum, so each threshold is found by bisection; all of them at once.
std::vector<std::int32_t> integer_thresholds(const FixedPoint& sums, const FixedPoint& levels) {
  const int count = levels.max() - levels.min();
  std::vector<std::int64_t> below(static_cast<std::size_t>(count), std::numeric_limits<std::int32_t>::min()),
      reached(below.size(), std::numeric_limits<std::int32_t>::max());
  Tensor tried = Tensor::empty({1, count}, DType::s32);
  tried.set_fixed_point(sums);
  for (int bit = 0; bit < 33; ++bit) {
    const auto middle = [&](std::size_t i) { return below[i] + (reached[i] - below[i]) / 2; };
    for (std::size_t i = 0; i < below.size(); ++i)
      tried.mutable_data<std::int32_t>()[i] = static_cast<std::int32_t>(middle(i));
    const std::vector<int> q = integers_of(kernels::quantize(tried, levels));
    for (std::size_t i = 0; i < below.size(); ++i)
      (q[i] > levels.min() + static_cast<int>(i) ? reached : below)[i] = middle(i);
  }
  return {reached.begin(), reached.end()};
}

}  // namespace faq
