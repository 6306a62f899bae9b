#include <algorithm>

#include "core/cpu.h"
#include "core/kernels/elementwise.h"
#include "core/kernels/integer_data_gradient.h"
#include "core/ops_parts.h"
#include "core/parallel.h"

namespace faq {
namespace {

bool is_integer_operand(const Tensor& x) { return x.dtype() == DType::u8 || x.dtype() == DType::s8; }

bool are_integers(const ConvBackward& conv) {
  return is_integer_operand(conv.x) && conv.weights.dtype() == DType::s8;
}

// What is read and written for an image: the gradient in f32 and twice in 8 bits; the input twice, and the
// sums and the result of its gradient.
kernels::ImageGroups groups_of(const ConvBackward& conv) {
  const Shape& filter = conv.weights.filter_shape();
  const std::int64_t images = conv.x.dim(0);
  const std::int64_t values =
      conv.x.numel() + kernels::conv2d_shape(conv.x.shape(), filter, conv.geometry).numel();
  return {images, 6 * values / std::max<std::int64_t>(images, 1), filter.numel()};
}

}  // namespace

bool ConvBackward::has_integer_weight_gradient() const {
  return grad_format == GradFormat::s8 && are_integers(*this) &&
         kernels::QuadGradient::suits(x.shape(), weights.filter_shape(), geometry);
}

bool ConvBackward::has_integer_data_gradient() const {
  return grad_format.is_integer() && dx_wanted && are_integers(*this) &&
         kernels::suits_integer_data_gradient(x.shape(), weights.filter_shape(), geometry);
}

// Tensors of bf16 exist on every CPU, kernels for them do not.
DType ConvBackward::float_dtype() const {
  return grad_format.is_integer() && !has_native_bf16() ? DType::f32 : grad_format.dtype();
}

IntegerBackward::IntegerBackward(const ConvBackward& conv)
    : conv_(conv),
      integer_weights_(conv.has_integer_weight_gradient()),
      integer_data_(conv.has_integer_data_gradient()),
      groups_(groups_of(conv)) {
  if (integer_weights_) {
    quads_.emplace(conv.weights.filter_shape(), conv.geometry, groups_.count());
  } else {
    in_float_.emplace(conv.weights.filter_shape(), conv.geometry, num_shares(groups_.count()));
  }
}

void IntegerBackward::add(std::int64_t group, int share, const Tensor& gradient, Tensor dx) {
  const std::int64_t first = groups_.begin(group);
  const Tensor x = conv_.x.rows(first, groups_.end(group));
  const bool rounds = integer_weights_ || (integer_data_ && dx);
  const kernels::RoundedGradient rounded =
      rounds ? kernels::rounded(gradient, conv_.keys, first) : kernels::RoundedGradient{};
  const bool has_float = !integer_weights_ || (dx && !integer_data_);
  const Tensor in_float = has_float ? kernels::convert(gradient, conv_.float_dtype()) : Tensor();
  if (integer_weights_) {
    quads_->add(group, x, rounded);
  } else {
    in_float_->add(x, in_float, share);
  }
  if (!dx) return;
  if (integer_data_) {
    kernels::conv2d_backward_data_integer(rounded, conv_.weights, conv_.geometry, conv_.engine, dx);
  } else if (conv_.float_dtype() == dx.dtype()) {
    kernels::conv2d_backward_data(in_float, conv_.operand(), conv_.geometry, dx);
  } else {
    const Tensor computed = kernels::conv2d_backward_data(in_float, conv_.operand(), x.shape(),
                                                          conv_.geometry, conv_.float_dtype());
    const Tensor converted = kernels::convert(computed, dx.dtype());
    std::ranges::copy(converted.span<bfloat16>(), dx.mutable_data<bfloat16>());
  }
}

Tensor IntegerBackward::weight_gradient() { return quads_ ? quads_->sum() : in_float_->sum(); }

}  // namespace faq
