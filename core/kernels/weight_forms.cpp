#include "core/kernels/weight_forms.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/division.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/exact_addends.h"
#include "core/kernels/interleaved_layout.h"
#include "core/kernels/learned_scale.h"
#include "core/parallel.h"

namespace faq::kernels {
namespace {

// Returns the form of that dtype, which make() makes if there is none yet.
template <class Make>
std::shared_ptr<WeightForms> form_of(DType dtype, std::vector<std::shared_ptr<WeightForms>>& known,
                                     Make make) {
  const auto found = std::ranges::find(known, dtype, [](const auto& form) { return form->dtype(); });
  if (found != known.end()) return *found;
  return known.emplace_back(std::make_shared<WeightForms>(make()));
}

// A filter of 3×3 taps, as most are.
void reverse_nine(const std::int8_t* filter, std::int8_t* reversed) {
  std::uint64_t eight;
  std::memcpy(&eight, filter + 1, sizeof eight);
  eight = __builtin_bswap64(eight);
  std::memcpy(reversed, &eight, sizeof eight);
  reversed[8] = filter[0];
}

constexpr std::int64_t block = 16;

// to[j][i] = from[i][j], of a block of bytes. Rows i and i + 8 are interleaved, four times.
void transpose(const std::int8_t* from, std::int64_t row, std::int8_t* to, std::int64_t to_row) {
  using Row [[gnu::vector_size(block)]] = std::int8_t;
  std::array<Row, block> rows, mixed;
  for (std::int64_t i = 0; i < block; ++i) std::memcpy(&rows[i], from + i * row, sizeof(Row));
  for (int time = 0; time < 4; ++time) {
    for (std::int64_t i = 0; i < block / 2; ++i) {
      const Row &a = rows[i], &b = rows[i + block / 2];
      mixed[2 * i] = __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
      mixed[2 * i + 1] =
          __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }
    rows = mixed;
  }
  for (std::int64_t j = 0; j < block; ++j) std::memcpy(to + j * to_row, &rows[j], sizeof(Row));
}

Shape flipped_shape(const Shape& weights, Extent first, int stride) {
  const auto taps = [&](std::int64_t all, int from) { return divided_up(all - from, stride); };
  return {weights[1], weights[0], taps(weights[2], first.height), taps(weights[3], first.width)};
}

// Taps of O,I,H,W weights as I,O,H,W, in reverse order. By blocks, of which both sides stay in the
// first-level cache.
Tensor flipped_taps(const Tensor& weights, Extent first, int stride) {
  const std::int64_t outputs = weights.dim(0), inputs = weights.dim(1),
                     area = weights.dim(2) * weights.dim(3);
  const std::vector<std::int64_t> places = flipped_filters(weights, first, stride).taps;
  const auto kept = static_cast<std::int64_t>(places.size());
  Tensor out = Tensor::empty(flipped_shape(weights.shape(), first, stride), DType::s8);
  if (weights.is_fixed_point()) out.set_fixed_point(weights.fixed_point());
  const std::int8_t* from = weights.data<std::int8_t>();
  std::int8_t* to = out.mutable_data<std::int8_t>();
  parallel_for(divided_up(inputs, block), 1, [&](std::int64_t begin, std::int64_t end) {
    const std::int64_t past = std::min(end * block, inputs);
    for (std::int64_t i0 = begin * block; i0 < past; i0 += block) {
      for (std::int64_t o0 = 0; o0 < outputs; o0 += block) {
        if (area == 1 && i0 + block <= inputs && o0 + block <= outputs) {
          transpose(from + o0 * inputs + i0, inputs, to + i0 * outputs + o0, outputs);
          continue;
        }
        for (std::int64_t i = i0; i < std::min(i0 + block, past); ++i) {
          for (std::int64_t o = o0; o < std::min(o0 + block, outputs); ++o) {
            const std::int8_t* filter = from + (o * inputs + i) * area;
            std::int8_t* reversed = to + (i * outputs + o) * kept;
            if (kept == 9 && area == 9) {
              reverse_nine(filter, reversed);
            } else {
              for (std::int64_t tap = 0; tap < kept; ++tap) reversed[tap] = filter[places[tap]];
            }
          }
        }
      }
    }
  });
  return out;
}

}  // namespace

WeightForms::WeightForms(Tensor weights, Extent first, int stride)
    : shape_(flipped_shape(weights.shape(), first, stride)),
      dtype_(weights.dtype()),
      are_whole_(true),
      flip_(Flip{std::move(weights), first, stride}) {}

const Tensor& WeightForms::weights() const {
  if (flip_) {
    std::call_once(flip_once_, [&] { weights_ = flipped_taps(flip_->weights, flip_->first, flip_->stride); });
  }
  return weights_;
}

// oneDNN's own copy is faster for filters of several taps, which it cannot flip. In a layout that is written
// for the first time, oneDNN writes it, too, and what it makes decides; weights whose outputs have all the
// same sum would prove little.
bool WeightForms::write_interleaved(const dnnl::memory::desc& wanted, Tensor& storage) const {
  using Result = onednn::ComparedCopies::Result;
  if (!flip_ && shape()[2] * shape()[3] > 1) return false;
  const auto layout = InterleavedLayout::of(wanted, shape());
  if (!layout) return false;
  onednn::ComparedCopies& compared = onednn::Context::instance().compared_copies();
  const onednn::ReorderProblem copy{onednn::plain_weights(shape(), dtype(), 1), wanted, 1};
  const Result known = compared.of(copy);
  if (known == Result::different) return false;
  const FilterView filters =
      flip_ ? flipped_filters(flip_->weights, flip_->first, flip_->stride) : plain_filters(weights());
  layout->pack(filters, storage);
  if (known == Result::equal) return true;
  const Tensor theirs = onednn::buffer(wanted);
  onednn::reorder(onednn::view(copy.from, weights()), onednn::view(wanted, theirs));
  const bool are_equal = layout->are_equal(storage, theirs);
  if (!are_equal || filters.have_different_sums())
    compared.set(copy, are_equal ? Result::equal : Result::different);
  return are_equal;
}

Tensor WeightForms::layout(const dnnl::memory::desc& wanted, DType images, int groups) {
  const std::lock_guard lock(mutex_);
  for (const Layout& layout : layouts_) {
    if (layout.desc == wanted) return layout.storage;
  }
  const dnnl::memory::desc plain = onednn::plain_weights(shape(), dtype(), groups);
  if (plain == wanted) return weights();
  Tensor storage = onednn::buffer(wanted);
  if (dtype() != DType::s8 || groups != 1 || !write_interleaved(wanted, storage))
    onednn::reorder(onednn::view(plain, weights()), onednn::view(wanted, storage));
  layouts_.push_back({wanted, storage});
  if (are_whole_)
    onednn::Context::instance().wanted_layouts().add({shape(), dtype(), images, groups}, wanted);
  return storage;
}

void WeightForms::prepare(DType images, int groups) {
  for (const auto& wanted :
       onednn::Context::instance().wanted_layouts().of({shape(), dtype(), images, groups}))
    layout(wanted, images, groups);
}

WeightForms::Addends& WeightForms::addends_entry(int max_input, int max_magnitude) {
  const auto entry = std::ranges::find_if(addends_, [&](const Addends& a) {
    return a.max_input == max_input && a.max_magnitude == max_magnitude;
  });
  if (entry != addends_.end()) return *entry;
  const Tensor& stored = flip_ ? flip_->weights : weights_;
  const bool are_small =
      stored.is_fixed_point() && are_exact(shape(), stored.fixed_point(), max_input, max_magnitude);
  const int parts = are_small ? 1 : kernels::exact_parts(weights(), max_input, max_magnitude);
  addends_.push_back({max_input, max_magnitude, parts});
  return addends_.back();
}

int WeightForms::exact_parts(int max_input, int max_magnitude) {
  const std::lock_guard lock(mutex_);
  return addends_entry(max_input, max_magnitude).parts;
}

std::vector<std::shared_ptr<WeightForms>> WeightForms::addends(int max_input, int max_magnitude) {
  const std::lock_guard lock(mutex_);
  Addends& entry = addends_entry(max_input, max_magnitude);
  if (entry.parts_of_weights.empty()) {
    for (Tensor& part : divided(weights(), entry.parts))
      entry.parts_of_weights.push_back(std::make_shared<WeightForms>(std::move(part), Tensor(), false));
  }
  return entry.parts_of_weights;
}

std::int64_t WeightForms::largest_window_sum() {
  const std::lock_guard lock(mutex_);
  if (largest_window_sum_ < 0) largest_window_sum_ = kernels::largest_window_sum(weights());
  return largest_window_sum_;
}

Tensor WeightForms::shift_correction() {
  const std::lock_guard lock(mutex_);
  if (!shift_correction_) {
    shift_correction_ = Tensor::empty({shape()[0]}, DType::s32);
    const std::int64_t length = shape().numel() / shape()[0];
    const std::int8_t* w = weights().data<std::int8_t>();
    std::int32_t* out = shift_correction_.mutable_data<std::int32_t>();
    for (std::int64_t o = 0; o < shape()[0]; ++o) {
      std::int32_t sum = 0;
      for (std::int64_t i = 0; i < length; ++i) sum += w[o * length + i];
      out[o] = -128 * sum;
    }
  }
  return shift_correction_;
}

std::shared_ptr<WeightForms> WeightForms::integers_as(DType dtype) {
  const std::lock_guard lock(mutex_);
  return form_of(dtype, integers_, [&] { return convert_unscaled(weights(), dtype); });
}

std::shared_ptr<WeightForms> WeightForms::converted(DType dtype) {
  const std::lock_guard lock(mutex_);
  return form_of(dtype, converted_, [&] {
    Tensor values = convert(weights(), dtype);
    if (channel_scales_) scale_rows_in_place(values, channel_scales_);
    return values;
  });
}

std::shared_ptr<WeightForms> WeightForms::flipped(Extent first, int stride) {
  check(dtype() == DType::s8, ErrorKind::internal, "flipped weights: expected integers, got ", dtype());
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find_if(flipped_, [&](const auto& forms) {
    return forms->flip_->first == first && forms->flip_->stride == stride;
  });
  if (known != flipped_.end()) return *known;
  return flipped_.emplace_back(std::make_shared<WeightForms>(weights(), first, stride));
}

std::shared_ptr<WeightForms> WeightForms::as_matrix() {
  const std::lock_guard lock(mutex_);
  const Shape& s = shape();
  if (!matrix_)
    matrix_ =
        std::make_shared<WeightForms>(weights().reshaped({s[0], s[1] * s[2] * s[3], 1, 1}), channel_scales_);
  return matrix_;
}

std::shared_ptr<const ByteWeights> WeightForms::for_tiles(std::int64_t lines) {
  check(dtype() == DType::s8, ErrorKind::internal, "weights for tiles: expected integers, got ", dtype());
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find(for_tiles_, lines, &ForTiles::lines);
  if (known != for_tiles_.end()) return known->weights;
  return for_tiles_.emplace_back(lines, std::make_shared<ByteWeights>(weights(), lines)).weights;
}

}  // namespace faq::kernels
