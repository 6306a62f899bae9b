#include <algorithm>

#include "core/kernels/block.h"
#include "core/kernels/norm.h"
#include "core/profile.h"

namespace faq::kernels {

RoundedGradient NormActBackward::apply_rounded(std::int64_t begin, std::int64_t end, const RoundingKeys& keys,
                                               Tensor& dresidual) const {
  const Booked booked(Work::fused);
  const std::int64_t length = x_.numel() / std::max<std::int64_t>(x_.dim(0), 1);
  check(!dresidual || dresidual.numel() == (end - begin) * length, "norm_act backward: ", dresidual.shape(),
        " for ", end - begin, " images of ", x_.shape());
  GradientScale scale;
  for_each_block(begin, end, [&](const Block& b) { scale.add(b.dx, b.n); });
  RoundedGradient result{Tensor::empty(x_.shape().with(0, end - begin), DType::s8), scale.scale()};
  std::int8_t* out = result.values.mutable_data<std::int8_t>();
  void* dresidual_out = dresidual ? dresidual.mutable_raw() : nullptr;
  const GradientRounder rounder(keys, length, result.scale);
  for_each_block(begin, end, [&](const Block& b) {
    if (dresidual_out) store_block(dresidual_out, dresidual.dtype(), b.offset, b.n, b.dresidual);
    rounder.round(b.image, b.offset % length, b.n, b.dx, out + b.offset);
  });
  return result;
}

}  // namespace faq::kernels
