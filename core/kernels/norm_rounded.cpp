#include <algorithm>

#include "core/division.h"
#include "core/kernels/block.h"
#include "core/kernels/element.h"
#include "core/kernels/norm.h"
#include "core/profile.h"

namespace faq::kernels {

RoundedGradient NormActBackward::apply_rounded(std::int64_t begin, std::int64_t end, const RoundingKeys& keys,
                                               Tensor& dresidual) const {
  const Booked booked(Work::fused);
  const std::int64_t length = x_.numel() / std::max<std::int64_t>(x_.dim(0), 1);
  check(!dresidual || dresidual.numel() == (end - begin) * length, "norm_act backward: ", dresidual.shape(),
        " for ", end - begin, " images of ", x_.shape());
  check(!largest_.empty() || x_.numel() == 0, "norm_act backward: rounding was not asked for");
  RoundedGradient result{Tensor::empty(x_.shape().with(0, end - begin), DType::s8),
                         gradient_scale(largest_dx(begin, end))};
  std::int8_t* out = result.values.mutable_data<std::int8_t>();
  void* dresidual_out = dresidual ? dresidual.mutable_raw() : nullptr;
  const GradientRounder rounder(keys, length, result.scale);
  for_each_block(begin, end, [&](const Block& b) {
    if (dresidual_out) store_block(dresidual_out, dresidual.dtype(), b.offset, b.n, b.dresidual);
    rounder.round(b.image, b.offset % length, b.n, b.dx, out + b.offset);
  });
  return result;
}

float NormActBackward::largest_dx(std::int64_t begin, std::int64_t end) const {
  const std::int64_t image = x_.numel() / std::max<std::int64_t>(x_.dim(0), 1), length = blocks_.length();
  // A block may have some of the neighbours' elements.
  const std::int64_t past = divided_up(end * image, length);
  float largest = 0;
  for (std::int64_t block = begin * image / length; block < past; ++block)
    largest = larger_or_nan(largest, largest_[block]);
  return largest + largest_rest_;
}

}  // namespace faq::kernels
