#include "core/kernels/interleaved_layout.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <numeric>
#include <utility>

#include "core/division.h"
#include "core/kernels/simd.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

constexpr std::int64_t unit_size = 4;
constexpr std::int64_t most_units = 16;  ///< that are written together: the cache line of an output's inputs

using Bytes [[gnu::vector_size(16)]] = std::int8_t;

// 0, 16, 1, 17, …: of the first halves of two vectors, byte by byte; or of their second halves.
Bytes first_bytes(const Bytes& a, const Bytes& b) {
  return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
Bytes last_bytes(const Bytes& a, const Bytes& b) {
  return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}
// The same by pairs of bytes.
Bytes first_pairs(const Bytes& a, const Bytes& b) {
  return __builtin_shufflevector(a, b, 0, 1, 16, 17, 2, 3, 18, 19, 4, 5, 20, 21, 6, 7, 22, 23);
}
Bytes last_pairs(const Bytes& a, const Bytes& b) {
  return __builtin_shufflevector(a, b, 8, 9, 24, 25, 10, 11, 26, 27, 12, 13, 28, 29, 14, 15, 30, 31);
}

// A unit's inputs, for one output: where each has its taps.
using Rows = std::array<const std::int8_t*, unit_size>;

// Units of filters of nine taps that lie side by side in the reverse order, as flipped ones of 3×3 do.
void pack_nine_reversed(const Rows& rows, const std::int64_t* taps, std::int8_t* to) {
  constexpr int count = 9;
  std::array<Bytes, unit_size> eight{};
  for (int k = 0; k < unit_size; ++k) std::memcpy(&eight[k], rows[k], count - 1);
  const Bytes a = first_bytes(eight[0], eight[1]), b = first_bytes(eight[2], eight[3]);
  std::array<std::int8_t, count * unit_size> units;
  const Bytes low = first_pairs(a, b), high = last_pairs(a, b);
  std::memcpy(units.data(), &low, sizeof low);
  std::memcpy(units.data() + sizeof low, &high, sizeof high);
  for (int k = 0; k < unit_size; ++k) units[(count - 1) * unit_size + k] = rows[k][count - 1];
  for (int tap = 0; tap < count; ++tap)
    std::memcpy(to + taps[count - 1 - tap], units.data() + tap * unit_size, unit_size);
}

void pack_any(const Rows& rows, const std::vector<std::int64_t>& from, const std::int64_t* taps,
              std::int8_t* to) {
  for (std::size_t tap = 0; tap < from.size(); ++tap)
    for (int k = 0; k < unit_size; ++k) to[taps[tap] + k] = rows[k][from[tap]];
}

// Units of n outputs that lie side by side, with one tap.
void pack_outputs(const Rows& rows, std::int64_t n, std::int8_t* to) {
  std::int64_t o = 0;
  for (constexpr std::int64_t together = sizeof(Bytes); o + together <= n; o += together) {
    std::array<Bytes, unit_size> inputs;
    for (int k = 0; k < unit_size; ++k) std::memcpy(&inputs[k], rows[k] + o, sizeof(Bytes));
    const Bytes a = first_bytes(inputs[0], inputs[1]), b = first_bytes(inputs[2], inputs[3]);
    const Bytes c = last_bytes(inputs[0], inputs[1]), d = last_bytes(inputs[2], inputs[3]);
    const Bytes units[] = {first_pairs(a, b), last_pairs(a, b), first_pairs(c, d), last_pairs(c, d)};
    std::memcpy(to + o * unit_size, units, sizeof units);
  }
  for (; o < n; ++o)
    for (int k = 0; k < unit_size; ++k) to[o * unit_size + k] = rows[k][o];
}

// Units of n outputs with one tap, whose inputs lie side by side: `count` units of each row, which begin
// row_step bytes apart, to the places in front of the units of the first output.
void pack_inputs(const std::int8_t* rows, std::int64_t row_step, std::int64_t n, const std::int64_t* places,
                 std::int64_t count, std::int8_t* to) {
  using Units [[gnu::vector_size(16)]] = std::int32_t;
  constexpr std::int64_t side = sizeof(Units) / unit_size;
  std::int64_t o = 0;
  for (; o + side <= n; o += side) {
    const std::int8_t* row = rows + o * row_step;
    std::int64_t unit = 0;
    for (; unit + side <= count; unit += side) {  // a square of units is transposed
      std::array<Units, side> units;
      for (int k = 0; k < side; ++k)
        std::memcpy(&units[k], row + k * row_step + unit * unit_size, sizeof(Units));
      const Units a = __builtin_shufflevector(units[0], units[1], 0, 4, 1, 5);
      const Units b = __builtin_shufflevector(units[2], units[3], 0, 4, 1, 5);
      const Units c = __builtin_shufflevector(units[0], units[1], 2, 6, 3, 7);
      const Units d = __builtin_shufflevector(units[2], units[3], 2, 6, 3, 7);
      const Units columns[] = {
          __builtin_shufflevector(a, b, 0, 1, 4, 5), __builtin_shufflevector(a, b, 2, 3, 6, 7),
          __builtin_shufflevector(c, d, 0, 1, 4, 5), __builtin_shufflevector(c, d, 2, 3, 6, 7)};
      for (int k = 0; k < side; ++k)
        std::memcpy(to + places[unit + k] + o * unit_size, &columns[k], sizeof(Units));
    }
    for (; unit < count; ++unit)
      for (int k = 0; k < side; ++k)
        std::memcpy(to + places[unit] + (o + k) * unit_size, row + k * row_step + unit * unit_size,
                    unit_size);
  }
  for (; o < n; ++o)
    for (std::int64_t unit = 0; unit < count; ++unit)
      std::memcpy(to + places[unit] + o * unit_size, rows + o * row_step + unit * unit_size, unit_size);
}

FAQ_SIMD std::int32_t sum_of(const std::int8_t* w, std::int64_t n) {
  std::int32_t sum = 0;
  for (std::int64_t i = 0; i < n; ++i) sum += w[i];
  return sum;
}

FAQ_SIMD void add_row(const std::int8_t* row, std::int64_t n, std::int32_t* __restrict sums) {
  for (std::int64_t i = 0; i < n; ++i) sums[i] += row[i];
}

// The sum of the taps of output `first`, of the next one, …
void sums_of(const FilterView& f, std::int64_t first, std::int64_t last, std::int32_t* sums) {
  const auto count = static_cast<std::int64_t>(f.taps.size());
  // Whole filters lie side by side: those of an output, or those of an input.
  if (f.input_step == count) {
    for (std::int64_t o = first; o < last; ++o)
      sums[o - first] = sum_of(f.data + o * f.output_step, f.inputs * count);
  } else if (f.output_step == count) {
    std::vector<std::int32_t> of_taps((last - first) * count);
    for (std::int64_t i = 0; i < f.inputs; ++i)
      add_row(f.data + i * f.input_step + first * count, (last - first) * count, of_taps.data());
    for (std::int64_t o = 0; o < last - first; ++o)
      sums[o] = std::reduce(of_taps.begin() + o * count, of_taps.begin() + (o + 1) * count);
  } else {
    for (std::int64_t o = first; o < last; ++o) {
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < f.inputs; ++i)
        for (const std::int64_t tap : f.taps) sum += f.data[o * f.output_step + i * f.input_step + tap];
      sums[o - first] = sum;
    }
  }
}

}  // namespace

// Cases that have a loop of their own.
enum class InterleavedLayout::Taps { one_of_inputs, one_of_outputs, nine_reversed, any };

InterleavedLayout::Taps InterleavedLayout::kind_of(const FilterView& filters) {
  const auto count = static_cast<std::int64_t>(filters.taps.size());
  if (count == 1 && filters.input_step == 1) return Taps::one_of_inputs;
  if (count == 1 && filters.output_step == 1) return Taps::one_of_outputs;
  constexpr std::array<std::int64_t, 9> nine{8, 7, 6, 5, 4, 3, 2, 1, 0};
  if (std::ranges::equal(filters.taps, nine)) return Taps::nine_reversed;
  return Taps::any;
}

bool FilterView::have_different_sums() const {
  std::vector<std::int32_t> sums(outputs);
  sums_of(*this, 0, outputs, sums.data());
  return std::ranges::adjacent_find(sums, std::not_equal_to{}) != sums.end();
}

FilterView plain_filters(const Tensor& weights) {
  const std::int64_t inputs = weights.dim(1), area = weights.dim(2) * weights.dim(3);
  std::vector<std::int64_t> taps(area);
  std::iota(taps.begin(), taps.end(), std::int64_t{0});
  return {weights.data<std::int8_t>(), weights.dim(0), inputs, inputs * area, area, std::move(taps)};
}

FilterView flipped_filters(const Tensor& weights, Extent first, int stride) {
  FilterView view = plain_filters(weights);
  std::swap(view.outputs, view.inputs);
  std::swap(view.output_step, view.input_step);
  view.taps.clear();
  const std::int64_t height = weights.dim(2), width = weights.dim(3);
  for (std::int64_t y = first.height; y < height; y += stride)
    for (std::int64_t x = first.width; x < width; x += stride) view.taps.push_back(y * width + x);
  std::ranges::reverse(view.taps);
  return view;
}

// Either [I/4][O'][4] or [I/16][4][O'][4] of a group of O' outputs, wherever groups, inputs and taps go.
std::optional<InterleavedLayout> InterleavedLayout::of(const dnnl::memory::desc& layout,
                                                       const Shape& weights) {
  using dims = dnnl::memory::dims;
  const onednn::Blocking blocking = onednn::blocking_of(layout);
  InterleavedLayout result;
  if (blocking.steps.size() != 4) return {};
  if (blocking.dimensions == dims{0, 1} && blocking.sizes[1] == unit_size) {
    result.group_size_ = blocking.sizes[0];
    result.units_together_ = 1;
  } else if (blocking.dimensions == dims{1, 0, 1} && blocking.sizes[2] == unit_size) {
    result.group_size_ = blocking.sizes[1];
    result.units_together_ = blocking.sizes[0];
  } else {
    return {};
  }
  result.outputs_ = weights[0];
  result.inputs_ = weights[1];
  if (result.inputs_ % (unit_size * result.units_together_) != 0) return {};
  result.group_step_ = blocking.steps[0];
  result.step_ = blocking.steps[1];
  for (std::int64_t y = 0; y < weights[2]; ++y)
    for (std::int64_t x = 0; x < weights[3]; ++x)
      result.taps_.push_back(y * blocking.steps[2] + x * blocking.steps[3]);
  result.weight_bytes_ = result.groups() * result.group_size_ * result.inputs_ * weights[2] * weights[3];
  const auto bytes = static_cast<std::int64_t>(layout.get_size());
  const std::int64_t of_sums = result.outputs_ * static_cast<std::int64_t>(sizeof(std::int32_t));
  result.has_sums_ = bytes > result.weight_bytes_;
  if (bytes < result.weight_bytes_ + (result.has_sums_ ? of_sums : 0)) return {};
  return result;
}

void InterleavedLayout::pack_units(const FilterView& f, Taps taps, std::int64_t group, std::int64_t first,
                                   std::int64_t last, std::int8_t* to) const {
  const std::int64_t output = group * group_size_, count = last - first;
  const std::int64_t size = std::min(group_size_, outputs_ - output);
  std::array<std::int64_t, most_units> places;
  for (std::int64_t unit = 0; unit < count; ++unit) places[unit] = place(group, first + unit);
  const std::int8_t* from = f.data + output * f.output_step + first * unit_size * f.input_step;
  const auto rows_of = [&](std::int64_t o, std::int64_t unit) {
    const std::int8_t* row = from + o * f.output_step + unit * unit_size * f.input_step;
    return Rows{row, row + f.input_step, row + 2 * f.input_step, row + 3 * f.input_step};
  };
  if (taps == Taps::one_of_inputs)
    return pack_inputs(from + f.taps[0], f.output_step, size, places.data(), count, to);
  if (taps == Taps::one_of_outputs) {
    for (std::int64_t unit = 0; unit < count; ++unit) {
      Rows rows = rows_of(0, unit);
      for (const std::int8_t*& row : rows) row += f.taps[0];
      pack_outputs(rows, size, to + places[unit]);
    }
    return;
  }
  const auto pack_unit = [&](std::int64_t o, std::int64_t unit) {
    std::int8_t* here = to + places[unit] + o * unit_size;
    const Rows rows = rows_of(o, unit);
    if (taps == Taps::nine_reversed) return pack_nine_reversed(rows, taps_.data(), here);
    pack_any(rows, f.taps, taps_.data(), here);
  };
  if (f.output_step < f.input_step) {
    for (std::int64_t unit = 0; unit < count; ++unit)
      for (std::int64_t o = 0; o < size; ++o) pack_unit(o, unit);
  } else {
    for (std::int64_t o = 0; o < size; ++o)
      for (std::int64_t unit = 0; unit < count; ++unit) pack_unit(o, unit);
  }
}

void InterleavedLayout::write_sums(const FilterView& filters, std::int32_t* sums) const {
  const std::int64_t together = std::max<std::int64_t>(64, 1024 / static_cast<std::int64_t>(taps_.size()));
  parallel_for(divided_up(outputs_, together), 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t first = begin * together; first < std::min(end * together, outputs_);
         first += together) {
      const std::int64_t last = std::min(first + together, outputs_);
      sums_of(filters, first, last, sums + first);
      for (std::int64_t o = first; o < last; ++o) sums[o] *= -128;
    }
  });
}

void InterleavedLayout::pack(const FilterView& filters, Tensor& layout) const {
  check(filters.outputs == outputs_ && filters.inputs == inputs_ && filters.taps.size() == taps_.size(),
        ErrorKind::internal, "layout of weights: other filters");
  auto* to = static_cast<std::int8_t*>(layout.mutable_raw());
  if (outputs_ % group_size_ != 0) std::memset(to, 0, weight_bytes_);
  const Taps taps = kind_of(filters);
  // So many units that what is read and what is written, of all taps, stays in the first-level cache; rows of
  // outputs are read along, few at a time.
  const bool reads_outputs = taps == Taps::one_of_outputs;
  const auto tap_count = static_cast<std::int64_t>(taps_.size());
  const std::int64_t together = reads_outputs ? 4 : std::max<std::int64_t>(most_units / tap_count, 4);
  const std::int64_t units = inputs_ / unit_size, of_group = divided_up(units, together);
  parallel_for(groups() * of_group, 8, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t group = reads_outputs ? i % groups() : i / of_group;
      const std::int64_t first = (reads_outputs ? i / groups() : i % of_group) * together;
      pack_units(filters, taps, group, first, std::min(first + together, units), to);
    }
  });
  if (has_sums_) write_sums(filters, reinterpret_cast<std::int32_t*>(to + weight_bytes_));
}

bool InterleavedLayout::are_equal(const Tensor& a, const Tensor& b) const {
  const std::int64_t of_sums = has_sums_ ? outputs_ * static_cast<std::int64_t>(sizeof(std::int32_t)) : 0;
  return std::memcmp(a.raw(), b.raw(), static_cast<std::size_t>(weight_bytes_ + of_sums)) == 0;
}

}  // namespace faq::kernels
