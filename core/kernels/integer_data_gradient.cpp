#include "core/kernels/integer_data_gradient.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "core/aligned_vector.h"
#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/exact_addends.h"
#include "core/kernels/scaled_sums.h"
#include "core/kernels/weight_forms.h"
#include "core/parallel.h"
#include "core/profile.h"

namespace faq::kernels {
namespace {

// Rows (or columns) of dx whose windows begin with the same tap: those at first, first + stride, …
struct Phase {
  int tap;   ///< the first of its taps
  int taps;  ///< every stride-th
  std::int64_t first;
  std::int64_t count;
  int before, behind;  ///< the border of the convolution of dy that computes them
};

// Input h is seen by output y through tap k where y·stride + k·dilation = h + padding. So the taps of h are
// k ≡ h + padding (mod stride), and with k = tap + j·stride, y = (h + padding − tap)/stride − j. Inputs that
// no output sees are in no phase.
std::vector<Phase> phases(std::int64_t inputs, std::int64_t outputs, int kernel, int stride, int padding,
                          int dilation) {
  std::vector<Phase> all;
  for (int tap = 0; tap < std::min(stride, kernel); ++tap) {
    const int taps = divided_up(kernel - tap, stride);
    const std::int64_t reach = (taps - 1) * dilation;
    std::int64_t first = ((tap - padding) % stride + stride) % stride;
    std::int64_t count = inputs > first ? divided_up(inputs - first, stride) : 0;
    std::int64_t before = reach - (first + padding - tap) / stride;  // its last output, with j = 0
    std::int64_t behind = count - outputs + reach - before;
    const std::int64_t unseen_before = std::max<std::int64_t>(before - reach, 0);
    const std::int64_t unseen_behind = std::max<std::int64_t>(behind - reach, 0);
    first += unseen_before * stride;
    count -= unseen_before + unseen_behind;
    before -= unseen_before;
    behind -= unseen_behind;
    if (count > 0)
      all.push_back({tap, taps, first, count, static_cast<int>(before), static_cast<int>(behind)});
  }
  return all;
}

bool has_border(const Phase& phase) { return phase.before >= 0 && phase.behind >= 0; }

std::int64_t pixels_of(const std::vector<Phase>& phases) {
  std::int64_t sum = 0;
  for (const Phase& phase : phases) sum += phase.count;
  return sum;
}

struct Phases {
  std::vector<Phase> rows, columns;
};
Phases phases_of(const Shape& x, const Shape& weights, const ConvGeometry& g) {
  const Shape y = conv2d_shape(x, weights, g);
  return {phases(x[1], y[1], static_cast<int>(weights[2]), g.stride, g.padding.top, g.dilation.height),
          phases(x[2], y[2], static_cast<int>(weights[3]), g.stride, g.padding.left, g.dilation.width)};
}

std::shared_ptr<WeightForms> taps_of(const PackedWeights& weights, const ConvGeometry& geometry,
                                     const Phase& rows, const Phase& columns) {
  return weights.forms().flipped({rows.tap, columns.tap}, geometry.stride);
}

// Copies n pixels; they lie `from_step` and `to_step` bytes apart.
void copy_pixels(const std::byte* from, std::int64_t from_step, std::byte* to, std::int64_t to_step,
                 std::int64_t bytes, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    std::memcpy(to + i * to_step, from + i * from_step, static_cast<std::size_t>(bytes));
}

// dx = sums·scale, or dx += sums·scale, of n elements that lie side by side.
void store_sums(const std::int32_t* sums, float scale, bool adds, std::byte* dx, DType dtype,
                std::int64_t n) {
  constexpr std::int64_t longest = 2048;
  alignas(cache_line) std::array<float, longest> values;
  for (std::int64_t i = 0; i < n; i += longest) {
    const std::int64_t length = std::min(longest, n - i);
    if (!adds) {
      scale_sums(sums + i, scale, values.data(), length);
    } else if (dtype == DType::bf16) {
      add_scaled_sums(sums + i, scale, reinterpret_cast<const bfloat16*>(dx) + i, values.data(), length);
    } else {
      load_block(dx, dtype, i, length, values.data());
      add_scaled_sums(sums + i, scale, values.data(), length);
    }
    store_block(dx, dtype, i, length, values.data());
  }
}

// The same in the pixels of a phase.
void store_phase(const Tensor& sums, float scale, const Phase& rows, const Phase& columns, int stride,
                 bool adds, Tensor& dx) {
  const std::int64_t channels = dx.dim(3), pixels = columns.count;
  const std::int64_t row_length = pixels * channels;
  const auto bytes = static_cast<std::int64_t>(size_of(dx.dtype())) * channels;
  const std::int32_t* from = sums.data<std::int32_t>();
  auto* out = static_cast<std::byte*>(dx.mutable_raw());
  parallel_for(dx.dim(0) * rows.count, 4, [&](std::int64_t begin, std::int64_t end) {
    AlignedVector<std::byte> gathered(stride > 1 ? static_cast<std::size_t>(pixels * bytes) : 0);
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t image = i / rows.count, y = rows.first + i % rows.count * stride;
      std::byte* place = out + ((image * dx.dim(1) + y) * dx.dim(2) + columns.first) * bytes;
      std::byte* row = stride > 1 ? gathered.data() : place;
      if (stride > 1 && adds) copy_pixels(place, stride * bytes, row, bytes, bytes, pixels);
      store_sums(from + i * row_length, scale, adds, row, dx.dtype(), row_length);
      if (stride > 1) copy_pixels(row, bytes, place, stride * bytes, bytes, pixels);
    }
  });
}

// Computes a phase of some images, or of some rows of one, whose sums stay in a second-level cache until they
// are stored.
class PhaseGradient {
 public:
  PhaseGradient(const RoundedGradient& dy, const PackedWeights& weights, const ConvGeometry& geometry,
                Engine engine, const Phase& rows, const Phase& columns, Tensor& dx, bool adds)
      : dy_(dy.values),
        scale_(dy.scale),
        taps_(taps_of(weights, geometry, rows, columns)),
        geometry_(geometry),
        engine_(engine),
        rows_(rows),
        columns_(columns),
        dx_(dx),
        adds_(adds) {
    dy_.set_fixed_point({.scale = 1, .bits = 8, .is_signed = true});
  }

  void compute() {
    const std::int64_t cached_sums = num_threads() * (std::int64_t{1} << 18);  // 1 MB for each thread
    const std::int64_t of_row = columns_.count * dx_.dim(3), images = dx_.dim(0);
    const std::int64_t together = std::max<std::int64_t>(1, cached_sums / (rows_.count * of_row));
    const std::int64_t band = std::clamp<std::int64_t>(cached_sums / of_row, 1, rows_.count);
    for (std::int64_t first = 0; first < images; first += together) {
      const std::int64_t last = std::min(first + together, images);
      if (band == rows_.count) {
        store(convolve(dy_.rows(first, last), rows_.before, rows_.behind), rows_, first, last);
        continue;
      }
      for (std::int64_t row = 0; row < rows_.count; row += band)
        compute_rows(first, row, std::min(row + band, rows_.count));
    }
  }

 private:
  // The rows of an image lie one after the other, so some of them are an image, too.
  void compute_rows(std::int64_t image, std::int64_t begin, std::int64_t end) {
    const std::int64_t reach = (taps_->shape()[2] - 1) * geometry_.dilation.height;
    const std::int64_t seen = begin - rows_.before, past = end + reach - rows_.before;  // rows of dy
    const std::int64_t from = std::max<std::int64_t>(seen, 0), to = std::min(past, dy_.dim(1));
    const Tensor part = dy_.rows(image, image + 1)
                            .reshaped({dy_.dim(1), dy_.dim(2), dy_.dim(3)})
                            .rows(from, to)
                            .reshaped({1, to - from, dy_.dim(2), dy_.dim(3)});
    Phase rows = rows_;
    rows.first += begin * geometry_.stride;
    rows.count = end - begin;
    store(convolve(part, static_cast<int>(from - seen), static_cast<int>(past - to)), rows, image, image + 1);
  }

  Tensor convolve(const Tensor& dy, int above, int below) const {
    const ConvGeometry forward{.padding = {above, columns_.before, below, columns_.behind},
                               .dilation = geometry_.dilation};
    Tensor sums = Tensor::empty(conv2d_shape(dy.shape(), taps_->shape(), forward), DType::s32);
    conv2d_integer(dy, *taps_, forward, engine_, sums);
    return sums;
  }

  void store(const Tensor& sums, const Phase& rows, std::int64_t first, std::int64_t last) {
    Tensor part = dx_.rows(first, last);
    store_phase(sums, scale_, rows, columns_, geometry_.stride, adds_, part);
  }

  Tensor dy_;
  float scale_;
  const std::shared_ptr<WeightForms> taps_;
  const ConvGeometry& geometry_;
  Engine engine_;
  const Phase& rows_;
  const Phase& columns_;
  Tensor& dx_;
  bool adds_;
};

}  // namespace

bool suits_integer_data_gradient(const Shape& x, const Shape& weights, const ConvGeometry& geometry) {
  if (geometry.groups != 1 || (geometry.stride != 1 && geometry.dilation != 1)) return false;
  // A fully connected layer behind a large map has more, unless it is a matrix (covers_image()).
  if (weights[0] * weights[2] * weights[3] > longest_divisible_filter) return false;
  const Phases all = phases_of(x, weights, geometry);
  return std::ranges::all_of(all.rows, has_border) && std::ranges::all_of(all.columns, has_border);
}

void conv2d_backward_data_integer(const RoundedGradient& dy, const PackedWeights& weights,
                                  const ConvGeometry& geometry, Engine engine, Tensor& dx, bool adds) {
  const Booked booked(Work::fused);
  const Shape& filter = weights.filter_shape();
  check(dy.values.dtype() == DType::s8 && dy.values.shape() == conv2d_shape(dx.shape(), filter, geometry),
        "conv2d backward: gradient ", dy.values.dtype(), " ", dy.values.shape(), " for an input of ",
        dx.shape());
  check(suits_integer_data_gradient(dx.shape(), filter, geometry), ErrorKind::internal,
        "conv2d backward: no 8-bit gradient of the data for ", filter, ", ", geometry);
  const Phases all = phases_of(dx.shape(), filter, geometry);
  const bool has_unseen = pixels_of(all.rows) < dx.dim(1) || pixels_of(all.columns) < dx.dim(2);
  if (has_unseen && !adds) std::memset(dx.mutable_raw(), 0, dx.bytes());
  for (const Phase& rows : all.rows) {
    for (const Phase& columns : all.columns) {
      PhaseGradient(dy, weights, geometry, engine, rows, columns, dx, adds).compute();
    }
  }
}

void prepare_data_gradient_integer(const Shape& x, const PackedWeights& weights,
                                   const ConvGeometry& geometry) {
  const Phases all = phases_of(x, weights.filter_shape(), geometry);
  for (const Phase& rows : all.rows)
    for (const Phase& columns : all.columns) taps_of(weights, geometry, rows, columns)->prepare(DType::s8, 1);
}

}  // namespace faq::kernels
