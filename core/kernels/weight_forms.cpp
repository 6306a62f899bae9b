#include "core/kernels/weight_forms.h"

#include <algorithm>

#include "core/kernels/elementwise.h"
#include "core/kernels/exact_addends.h"
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

// Taps of O,I,H,W weights as I,O,H,W, in reverse order.
Tensor flipped_taps(const Tensor& weights, Extent first, int stride) {
  const Shape& s = weights.shape();
  const auto taps = [&](std::int64_t all, int from) { return (all - from + stride - 1) / stride; };
  const std::int64_t height = taps(s[2], first.height), width = taps(s[3], first.width);
  Tensor out = Tensor::empty({s[1], s[0], height, width}, DType::s8);
  if (weights.is_fixed_point()) out.set_fixed_point(weights.fixed_point());
  const std::int8_t* from = weights.data<std::int8_t>();
  std::int8_t* to = out.mutable_data<std::int8_t>();
  parallel_for(s[1], 4, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      for (std::int64_t o = 0; o < s[0]; ++o) {
        const std::int8_t* filter = from + (o * s[1] + i) * s[2] * s[3];
        std::int8_t* reversed = to + (i * s[0] + o) * height * width;
        for (std::int64_t y = 0; y < height; ++y) {
          for (std::int64_t x = 0; x < width; ++x)
            reversed[(height - 1 - y) * width + width - 1 - x] =
                filter[(first.height + y * stride) * s[3] + first.width + x * stride];
        }
      }
    }
  });
  return out;
}

}  // namespace

dnnl::memory WeightForms::layout(const dnnl::memory::desc& wanted, int groups) {
  const dnnl::memory::desc plain = onednn::plain_weights(shape(), dtype(), groups);
  if (plain == wanted) return onednn::view(plain, weights_);
  const std::lock_guard lock(mutex_);
  for (const Layout& layout : layouts_) {
    if (layout.desc == wanted) return onednn::view(wanted, layout.storage);
  }
  Tensor storage = onednn::buffer(wanted);
  const dnnl::memory target = onednn::view(wanted, storage);
  onednn::reorder(onednn::view(plain, weights_), target);
  layouts_.push_back({wanted, storage});
  return target;
}

WeightForms::Addends& WeightForms::addends_entry(int max_input, int max_magnitude) {
  const auto entry = std::ranges::find_if(addends_, [&](const Addends& a) {
    return a.max_input == max_input && a.max_magnitude == max_magnitude;
  });
  if (entry != addends_.end()) return *entry;
  addends_.push_back({max_input, max_magnitude, kernels::exact_parts(weights_, max_input, max_magnitude)});
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
    for (Tensor& part : divided(weights_, entry.parts))
      entry.parts_of_weights.push_back(std::make_shared<WeightForms>(std::move(part)));
  }
  return entry.parts_of_weights;
}

Tensor WeightForms::shift_correction() {
  const std::lock_guard lock(mutex_);
  if (!shift_correction_) {
    shift_correction_ = Tensor::empty({shape()[0]}, DType::s32);
    const std::int64_t length = shape().numel() / shape()[0];
    const std::int8_t* w = weights_.data<std::int8_t>();
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
  return form_of(dtype, integers_, [&] { return convert_unscaled(weights_, dtype); });
}

std::shared_ptr<WeightForms> WeightForms::converted(DType dtype) {
  const std::lock_guard lock(mutex_);
  return form_of(dtype, converted_, [&] {
    Tensor values = convert(weights_, dtype);
    if (channel_scales_) scale_rows_in_place(values, channel_scales_);
    return values;
  });
}

std::shared_ptr<WeightForms> WeightForms::flipped(Extent first, int stride) {
  const std::lock_guard lock(mutex_);
  const auto known = std::ranges::find_if(
      flipped_, [&](const Flipped& f) { return f.first == first && f.stride == stride; });
  if (known != flipped_.end()) return known->weights;
  auto weights = std::make_shared<WeightForms>(flipped_taps(weights_, first, stride));
  flipped_.push_back({first, stride, weights});
  return weights;
}

}  // namespace faq::kernels
