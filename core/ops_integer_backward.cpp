#include <algorithm>
#include <cstring>

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

InputGradient ConvBackward::input_gradient(const Tensor& sum) const {
  if (!dx_wanted) return {};
  if (sum && sum.dtype() == grad_format.dtype()) return {sum, true};
  return {Tensor::empty(x.shape(), grad_format.dtype())};
}

void ConvBackward::data_gradient(const Tensor& dy, const kernels::PackedWeights& packed,
                                 InputGradient dx) const {
  Tensor& values = dx.values;
  if (!dx.adds && dy.dtype() == values.dtype())
    return kernels::conv2d_backward_data(dy, packed, geometry, values);
  const Tensor computed = kernels::conv2d_backward_data(dy, packed, values.shape(), geometry, dy.dtype());
  const Tensor converted = kernels::convert(computed, values.dtype());
  if (dx.adds) return kernels::add_in_place(values, converted);
  std::memcpy(values.mutable_raw(), converted.raw(), values.bytes());
}

IntegerBackward::IntegerBackward(const ConvBackward& conv)
    : conv_(conv),
      integer_weights_(conv.has_integer_weight_gradient()),
      integer_data_(conv.has_integer_data_gradient()),
      needs_float_(!integer_weights_ || (conv.dx_wanted && !integer_data_)),
      groups_(groups_of(conv)) {
  if (integer_weights_) {
    quads_.emplace(conv.x.shape(), conv.weights.filter_shape(), conv.geometry, groups_.count(),
                   conv.weight_factors());
  } else {
    in_float_.emplace(conv.weights.filter_shape(), conv.geometry, num_shares(groups_.count()));
  }
  if (integer_data_) {
    kernels::prepare_data_gradient_integer(conv.x.shape(), conv.weights, conv.geometry);
  } else if (conv.dx_wanted) {
    conv.operand().prepare(conv.float_dtype(), conv.geometry.groups);
  }
}

void IntegerBackward::add(std::int64_t group, int share, const kernels::RoundedGradient& rounded,
                          const Tensor& in_float, InputGradient dx) {
  const Tensor x = conv_.x.rows(groups_.begin(group), groups_.end(group));
  const Tensor gradient = needs_float_ ? kernels::convert(in_float, conv_.float_dtype()) : Tensor();
  if (integer_weights_) {
    quads_->add(group, x, rounded);
  } else {
    in_float_->add(x, gradient, share);
  }
  if (!dx) return;
  if (integer_data_) {
    kernels::conv2d_backward_data_integer(rounded, conv_.weights, conv_.geometry, conv_.engine, dx.values,
                                          dx.adds);
  } else {
    conv_.data_gradient(gradient, conv_.operand(), dx);
  }
}

Tensor IntegerBackward::weight_gradient() { return quads_ ? quads_->sum() : conv_.scaled(in_float_->sum()); }

}  // namespace faq
